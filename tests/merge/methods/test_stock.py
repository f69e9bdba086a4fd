"""Every method of mergekit with roles: its kernel bit for bit on the body, the task model's head as it is."""

from pathlib import Path

import pytest
import torch
import yaml
from mergekit.merge_methods import registry
from mergekit.merge_methods.base import BasePolicy, TensorGroup

from taxlt_mergekit.merge.methods.stock import StockMerge, fits, tensor_seed
from taxlt_mergekit.merge.methods.table import METHODS
from tests.helpers.families import build
from tests.helpers.hosts import console
from tests.helpers.merging import load_without_gaps, tensors

STOCK = {name: method.stock for name, method in METHODS.items() if isinstance(method, StockMerge)}
RANDOM = {name for name in STOCK if "dare" in name or "della" in name}
TWO = {name for name, method in STOCK.items() if method.spec.contract.max_non_base == 2}
PER_MODEL = {
    "weight": {"task": 1.0, "src": -0.25, "tgt": 0.7},
    "density": {"task": 0.9, "src": 0.5, "tgt": 0.4},
    "gamma": {"task": 0.01, "src": 0.02, "tgt": 0.05},
    "epsilon": {"task": 0.05, "src": 0.1, "tgt": 0.15},
}
ROLES = {"task": "task", "src": "source", "tgt": "target"}
SEED = 7
# Written to a process of its own: all recipes one after the other.
SHARED = {"xlt_sce": {"select_topk": 0.6}, "xlt_karcher": {"max_iter": 3}, "xlt_ties": {"lambda": 0.8}}


def parameters_of(name: str) -> list[str]:
    return [p.name for p in STOCK[name].spec.parameters if p.name in PER_MODEL and p.scope != "shared"]


def models_of(name: str) -> list[str]:
    return ["task", "tgt"] if name in TWO else ["task", "src", "tgt"]


def document(folder: Path, name: str, roles: bool = True) -> dict:
    """A recipe of a method, or of mergekit's own that it stands for."""
    models = []
    for model in models_of(name):
        settings = {key: PER_MODEL[key][model] for key in parameters_of(name)}
        models.append(
            {
                "model": str(folder / model),
                "parameters": settings | ({"role": ROLES[model]} if roles else {}),
            }
        )
    found = {
        "name": f"{'ours' if roles else 'stock'}_{name}",
        "merge_method": name if roles else STOCK[name].spec.name,
        "models": models,
        "dtype": "float32",
    }
    if STOCK[name].spec.contract.base != BasePolicy.IGNORED:
        found["base_model"] = str(folder / "theta0")
    return found | ({"parameters": SHARED[name]} if name in SHARED else {})


def merge_all(documents: list[dict], tmp_path: Path) -> Path:
    """mergekit-multi on them, in one process; returns the folder that has each by its name."""
    recipes = tmp_path / "all.yml"
    recipes.write_text(yaml.safe_dump_all(documents))
    out = tmp_path / "steps"
    done = console("mergekit-multi", recipes, "-I", out, "--random-seed", SEED)
    assert done.code == 0, done.stderr
    return out


def by_kernel(name: str, tensor: str, folder: Path) -> torch.Tensor:
    """One tensor as mergekit's own kernel makes it."""
    models = models_of(name)
    with_base = STOCK[name].spec.contract.base != BasePolicy.IGNORED
    group = TensorGroup.from_tensors(
        [tensors(folder / model)[tensor] for model in [*models, *(["theta0"] if with_base else [])]],
        ids=[*models, *(["theta0"] if with_base else [])],
        base_index=len(models) if with_base else None,
        name=tensor,
    )
    values = {key: {model: PER_MODEL[key][model] for model in models} for key in parameters_of(name)}
    torch.manual_seed(tensor_seed(SEED, tensor))
    (result,) = STOCK[name]((group,), parameters=values | SHARED.get(name, {}))
    return result


def test_contracts_decide_which_methods_there_are():
    left_out = {m.spec.name for m in registry.registered_methods() if not m.spec.name.startswith("xlt_")}
    left_out -= {method.spec.name for method in STOCK.values()}
    assert left_out == {"slerp", "nearswap", "arcee_fusion", "passthrough"}
    assert all(
        method.spec.contract.max_inputs in (1, 2) and not fits(method)
        for method in map(registry.get, left_out)
    )


@pytest.mark.parametrize("family", ["xlm-roberta", "bert", "modernbert"])
def test_classifiers_keep_their_head_and_the_body_is_the_kernels(family, tmp_path):
    folder = build(tmp_path / "models", family)
    out = merge_all([document(folder, name) for name in STOCK], tmp_path)
    base, task = tensors(folder / "theta0"), tensors(folder / "task")
    model = load_without_gaps(folder / "task")
    prefix = f"{model.base_model_prefix}."
    head = {name for name in task if not name.startswith(prefix) or name not in base}
    assert head and len(head) < len(task) / 2
    changed = 0
    for name in STOCK:
        found = tensors(out / f"ours_{name}")
        assert found.keys() == task.keys(), name
        for tensor, value in found.items():
            want = task[tensor] if tensor in head else by_kernel(name, tensor, folder)
            assert torch.equal(value, want), (name, tensor)
            changed += tensor not in head and not torch.equal(value, task[tensor])
    assert changed > 0.9 * len(STOCK) * (len(task) - len(head))
    load_without_gaps(out / "ours_xlt_ties")
    card = (out / "ours_xlt_ties" / "README.md").read_text()
    assert "TIES" in card and "2306.01708" in card and "| density |" in card.replace("  ", " ")


def test_bit_for_bit_what_mergekit_gives_where_it_can(tmp_path):
    """On checkpoints of one architecture. Random methods draw in another order: above are their kernels."""
    folder = build(tmp_path / "models", "llama")
    names = [name for name in STOCK if name not in RANDOM]
    documents = [document(folder, name, roles) for name in names for roles in (True, False)]
    out = merge_all(documents, tmp_path)
    for name in names:
        ours, theirs = tensors(out / f"ours_{name}"), tensors(out / f"stock_{name}")
        assert ours.keys() == theirs.keys()
        for tensor, value in theirs.items():
            assert torch.equal(ours[tensor], value), (name, tensor)
