"""How the paper trained its vectors: section 3, table 1 (XLM-R base) and appendix G (XLM-R large)."""

from dataclasses import dataclass
from typing import Literal

from taxlt_mergekit.paper.catalog import Size

LANGUAGE_BATCH_SIZE = 64  # section 3
LANGUAGE_STEPS: dict[Size, int] = {"base": 50_000, "large": 20_000}  # section 3
LANGUAGE_LEARNING_RATE = 5e-5  # section 3
SEQUENCE_LENGTH = 256  # section 3, of language vectors; the paper gives none for task vectors


@dataclass(frozen=True)
class TaskDefaults:
    """One column of table 1, or what appendix G says about XLM-R large."""

    batch_size: int
    num_train_epochs: float
    learning_rate: float
    eval_steps: int
    metric_for_best_model: Literal["accuracy", "f1"]
    warmup_steps: int = 0
    early_stopping_patience: int | None = None
    source: str = "table 1"


TASK_DEFAULTS: dict[tuple[str, Size], TaskDefaults] = {
    ("multinli", "base"): TaskDefaults(32, 5, 2e-5, 625, "accuracy"),
    ("marc", "base"): TaskDefaults(32, 5, 2e-5, 625, "accuracy"),
    ("smsa", "base"): TaskDefaults(16, 10, 2e-5, 250, "f1"),
    ("multinli", "large"): TaskDefaults(
        32, 5, 2e-5, 625, "accuracy", warmup_steps=6000, source="table 1 and appendix G"
    ),
    ("marc", "large"): TaskDefaults(32, 5, 2e-5, 625, "accuracy"),
    ("smsa", "large"): TaskDefaults(
        32, 10, 1e-5, 250, "f1", warmup_steps=300, early_stopping_patience=3, source="appendix G"
    ),
}
