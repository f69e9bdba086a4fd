"""Scores one model on lm-eval tasks again and again, with all but the forward passes done once.

lm-eval's own `evaluate` does the scoring. Tasks are loaded, their requests built and their texts tokenised at
the first call; later calls find them as they were.
"""

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from taxlt_mergekit.cells.lm_eval import plain_metrics
from taxlt_mergekit.cells.store import Documents
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM
from taxlt_mergekit.paper.catalog import Split
from taxlt_mergekit.paper.tasks import task_folder


def task_manager(tasks: Sequence[str], include_path: tuple[str, ...] = ()) -> TaskManager:
    """lm-eval's manager of tasks, read as far as these tasks need.

    Reading lm-eval's thousands of task files takes seconds, so ours and the user's are looked at first; of
    tasks of one name lm-eval prefers them to its own in any case.

    Raises:
        UserError: a task that does not exist.
    """
    manager = _manager(include_path, False)
    if not set(tasks) <= set(manager.all_subtasks):
        manager = _manager(include_path, True)
    for name in tasks:
        if name not in manager.all_subtasks:
            raise UserError(f"task {name}: lm-eval knows no such task; see `lm_eval ls tasks`")
    return manager


@cache
def _manager(include_path: tuple[str, ...], include_defaults: bool) -> TaskManager:
    paths = list(include_path) if include_defaults else [str(task_folder()), *include_path]
    return TaskManager(include_path=paths or None, include_defaults=include_defaults)


class _TokensOnce(SequenceClassifierLM):
    """hf-seq-cls that tokenises a set of documents once, and leaves the progress bar to the sweep."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._encoded: dict[Any, list[dict[str, list[int]]]] = {}

    def _encode(self, documents: Any) -> list[dict[str, list[int]]]:
        key = tuple((document.task, *document.texts) for document in documents)
        if key not in self._encoded:
            self._encoded[key] = super()._encode(documents)
        return self._encoded[key]

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def check(self, task: Any, name: str) -> None:
        """Refuse a task whose labels or columns do not fit the head."""
        self._layout(SimpleNamespace(task=task, doc=next(iter(task.eval_docs))), name)


class Scorer:
    """A model in memory and the tasks it is scored on."""

    def __init__(
        self,
        pretrained: str,
        architecture: str,
        tasks: list[str],
        *,
        dtype: str | None,
        batch_size: int | str = 32,
        device: str | None = None,
        limit: int | None = None,
        include_path: tuple[str, ...] = (),
    ):
        """
        Args:
            pretrained: folder or hub id of the task model; a classification head is scored by hf-seq-cls, any
                other by lm-eval's hf.
            architecture: as its config names it.
            tasks: lm-eval task names.
            dtype: the type of the merged weights; the checkpoint's own where it is None.

        Raises:
            UserError: a task that does not exist, labels that are not the head's, or what the models refuse.
        """
        model_class = _TokensOnce if architecture.endswith("ForSequenceClassification") else HFLM
        self._tasks = task_manager(tasks, include_path).load(tasks)["tasks"]
        self._limit = limit
        self.lm = model_class(
            pretrained=pretrained,
            dtype=dtype or "auto",
            batch_size=batch_size,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        )
        for name, task in self._tasks.items():
            if isinstance(self.lm, _TokensOnce):
                self.lm.check(task, name)
            _build_requests_once(task)

    @property
    def model(self) -> torch.nn.Module:
        return self.lm.model

    def split(self, task: str) -> Split:
        """`test` where the task scores its data's test split, else `dev`."""
        split = self._tasks[task].config.test_split or ""
        return "test" if split == "test" else "dev"

    def score(self, task: str) -> tuple[dict[str, float], Documents | None]:
        """lm-eval's metrics with standard errors, and each document's label and prediction.

        Raises:
            UserError: what the model refuses.
        """
        found = evaluate(
            self.lm, {"tasks": {task: self._tasks[task]}, "groups": {}}, limit=self._limit, log_samples=True
        )
        return plain_metrics(found["results"][task]), _documents(self._tasks[task], found["samples"][task])


def _build_requests_once(task: Any) -> None:
    build = task.build_all_requests
    built: list[Any] = []

    def build_or_reset(**kwargs: Any) -> None:
        if not built:
            build(**kwargs)
            built.append(True)
        for request in task.instances:
            request.resps, request.filtered_resps = [], {}

    task.build_all_requests = build_or_reset


def _documents(task: Any, samples: list[dict[str, Any]]) -> Documents | None:
    """Label indices of a multiple-choice task; None for other tasks."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return None

    def target(row: dict[str, Any]) -> int:
        label = row["target"]
        return task.doc_to_choice(row["doc"]).index(label) if isinstance(label, str) else int(label)

    rows = sorted(samples, key=lambda row: row["doc_id"])
    try:
        return Documents(
            target=tuple(map(target, rows)),
            prediction=tuple(
                int(np.argmax([float(choice[0]) for choice in row["filtered_resps"]])) for row in rows
            ),
        )
    except (TypeError, ValueError, IndexError):
        return None  # several right choices, or none
