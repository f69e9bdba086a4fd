"""A classification head from its checkpoint, and no other than a trained one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification

from taxlt_mergekit.errors import UserError


class HeadLoader:
    """AutoModelForSequenceClassification, noting the weights that a checkpoint lacks.

    Attributes:
        missing: their names, sorted.
    """

    def __init__(self) -> None:
        self.missing: list[str] = []

    def from_pretrained(self, pretrained: str, **kwargs: Any) -> Any:
        """As the class's own.

        Raises:
            UserError: weights of another shape than config.json says.
        """
        kwargs["ignore_mismatched_sizes"] = True  # refused here, in words that say which
        model, report = AutoModelForSequenceClassification.from_pretrained(
            pretrained, output_loading_info=True, **kwargs
        )
        for name, stored, built in sorted(report["mismatched_keys"]):
            raise UserError(
                f"hf-seq-cls: {pretrained}: {name} is {_shape(stored)} in the weights, {_shape(built)} by "
                f"config.json, which has {model.config.num_labels} labels in id2label and vocab_size "
                f"{getattr(model.config.get_text_config(), 'vocab_size', None)}; correct config.json"
            )
        self.missing += sorted(report["missing_keys"])
        return model


def refuse_untrained(pretrained: object, missing: Sequence[str], adapter: str | None) -> None:
    """Refuse a model whose head, or other weights, started at random.

    Args:
        missing: what the checkpoint lacks.
        adapter: folder of one on top of it, which may bring the head.
    """
    if missing and adapter:
        from peft.utils import load_peft_weights

        brought = {
            name.removeprefix("base_model.model.") for name in load_peft_weights(adapter, device="cpu")
        }
        missing = [name for name in missing if name not in brought]
    if missing:
        raise UserError(
            f"hf-seq-cls: {pretrained} has no weights for {', '.join(missing[:2])}"
            f"{f' and {len(missing) - 2} more' if len(missing) > 2 else ''}; "
            "a head that starts at random is not scored"
        )


def recipe_text(pretrained: str) -> str | None:
    """The recipe that a merged model carries."""
    try:
        return Path(pretrained, "mergekit_config.yml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _shape(size: Sequence[int]) -> str:
    return "×".join(map(str, size))
