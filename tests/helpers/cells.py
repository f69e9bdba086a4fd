"""Cells that tests make up."""

from taxlt_mergekit.cells.store import Cell, Documents, Parameters


def make_cell(key: str = "a", **fields) -> Cell:
    """A cell of +TGT in Quechua on validation data, but for `fields`."""
    defaults = {
        "recipe": "merge_configs/quy_plus_tgt.yml",
        "benchmark": "americas_nli",
        "language": "quy",
        "variant": "plus_tgt",
        "model": "FacebookAI/xlm-roberta-base",
        "parameters": Parameters(target_weight=0.9),
        "split": "dev",
        "task": "americas_nli_dev_quy",
        "metrics": {"acc": 0.5, "acc_stderr": 0.01},
        "documents": Documents(target=[0, 1, 2], prediction=[0, 1, 1]),
    }
    return Cell(key=key, **(defaults | fields))
