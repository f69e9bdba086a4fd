"""Scores one model on lm-eval tasks again and again, with all but the forward passes done once.

lm-eval's own `evaluate` does the scoring. Tasks are loaded, their requests built and their texts tokenised at
the first call; later calls find them as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from taxlt_mergekit.cells.lm_eval import coverage, documents, log_probabilities, plain_metrics
from taxlt_mergekit.cells.store import Coverage, Documents
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.evaluate.classifier import Document, SequenceClassifierLM
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


class RepeatedClassifier(SequenceClassifierLM):
    """hf-seq-cls that tokenises a set of documents once, and shows no bar of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._encoded: dict[Any, list[dict[str, list[int]]]] = {}

    def encode(self, documents: Sequence[Document]) -> list[dict[str, list[int]]]:
        key = tuple((document.task, *document.texts) for document in documents)
        if key not in self._encoded:
            self._encoded[key] = super().encode(documents)
        return self._encoded[key]

    def classify(self, texts: Sequence[Sequence[str]], name: str) -> tuple[tuple[float, ...], ...]:
        """Log-probabilities (documents, classes) of documents that are in no task."""
        documents = [Document(name, list(text), []) for text in texts]
        rows = dict(self.classified(documents, self.encode(documents), disable_tqdm=True))
        return tuple(tuple(rows[position]) for position in range(len(documents)))

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)


class RepeatedTask:
    """An lm-eval task in every respect; its requests are built once, and then only lose their answers."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._built = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def build_all_requests(self, **options: Any) -> None:
        if not self._built:
            self._task.build_all_requests(**options)
            self._built = True
        for request in self._task.instances:
            request.resps, request.filtered_resps = [], {}


@dataclass(frozen=True)
class Score:
    """What a model gave on a task.

    Attributes:
        metrics: lm-eval's, with standard errors; none where documents have no labels.
        documents: each document's label and prediction; None where a task does not tell them.
        coverage: how many documents were scored.
        log_probabilities: (documents, classes), no label read; empty where a task is no multiple choice.
    """

    metrics: dict[str, float]
    documents: Documents | None = None
    coverage: Coverage | None = None
    log_probabilities: tuple[tuple[float, ...], ...] = ()


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
        found = task_manager(tasks, include_path).load(tasks)["tasks"]
        self._tasks = {name: RepeatedTask(task) for name, task in found.items()}
        self._limit = limit
        model_class = RepeatedClassifier if architecture.endswith("ForSequenceClassification") else HFLM
        self.lm = model_class(
            pretrained=pretrained,
            dtype=dtype or "auto",
            batch_size=batch_size,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        )
        if isinstance(self.lm, RepeatedClassifier):
            for name, task in found.items():
                self.lm.layout(task, next(iter(task.eval_docs)), name)

    @property
    def model(self) -> torch.nn.Module:
        return self.lm.model

    def split(self, task: str) -> Split:
        """`test` where the task scores its data's test split, else `dev`."""
        split = self._tasks[task].config.test_split or ""
        return "test" if split == "test" else "dev"

    def score(self, task: str) -> Score:
        """What lm-eval makes of the model on one of the tasks.

        Raises:
            UserError: what the model refuses.
        """
        found = evaluate(
            self.lm, {"tasks": {task: self._tasks[task]}, "groups": {}}, limit=self._limit, log_samples=True
        )
        lm_evals, samples = self._tasks[task], found["samples"][task]
        metrics, covered = plain_metrics(found["results"][task]), coverage(found, task)
        if lm_evals.OUTPUT_TYPE != "multiple_choice":
            return Score(metrics, coverage=covered)
        return Score(
            metrics if all(sample["target"] is not None for sample in samples) else {},
            documents(samples, lambda sample: lm_evals.doc_to_choice(sample["doc"])),
            covered,
            log_probabilities(samples),
        )

    def classify(self, texts: Sequence[Sequence[str]], name: str) -> tuple[tuple[float, ...], ...]:
        """Log-probabilities (documents, classes) of texts, or pairs of texts, in the order of the head.

        Args:
            name: where they come from, for messages.

        Raises:
            UserError: the model has no head, or what it refuses.
        """
        if not isinstance(self.lm, RepeatedClassifier):
            raise UserError(
                f"--text {name}: a model without a classification head reads a prompt, raw text has none; "
                "name a task with --tasks, whose labels are then not read"
            )
        return self.lm.classify(texts[: self._limit], name)
