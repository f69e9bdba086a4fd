"""Runs the jobs of a sweep: every recipe at every point, merged in memory and scored; gives back cells.

A cell is one point on one task. Its key is a hash of what it is made of (recipe, contents of checkpoints,
task), so a sweep that is started again runs what is missing or has changed, and nothing else.
"""

import hashlib
import importlib.metadata
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mergekit.common import ModelReference
from mergekit.options import MergeOptions

from taxlt_mergekit.cells.store import Cell, Parameters, Seconds, read_cells
from taxlt_mergekit.cells.unlabelled import Unlabelled, read_unlabelled
from taxlt_mergekit.errors import UserError, one_line, translated
from taxlt_mergekit.evaluate.scorer import Score, Scorer, task_manager
from taxlt_mergekit.merge.adapter import fingerprint, merged_checkpoint
from taxlt_mergekit.paper.catalog import known_tasks
from taxlt_mergekit.paper.variants import MODEL
from taxlt_mergekit.sweep.jobs import Job
from taxlt_mergekit.sweep.memory import MemoryMerge, TensorCache
from taxlt_mergekit.sweep.points import at_point, own_parameters
from taxlt_mergekit.sweep.recipe import Recipe
from taxlt_mergekit.sweep.request import Request

# Folder below a sweep's output for the checkpoints that models with adapters make.
ADAPTERS = "adapters"

_PACKAGES = ("taxlt-mergekit", "mergekit", "lm-eval", "transformers", "torch")

# What is kept: a score, or predictions whose labels were not read.
Kept = Cell | Unlabelled

# (point, kind of what is kept, task or text) -> content hash
Keys = dict[tuple[Parameters | None, type, str], str]


@dataclass(frozen=True)
class Run:
    """How cells are scored; all of it is part of what `mergekit-yaml` and `lm_eval` would be told."""

    batch_size: int | str = 32
    device: str | None = None
    limit: int | None = None
    include_path: tuple[str, ...] = ()
    seed: int | None = None
    options: MergeOptions = field(default_factory=MergeOptions)


def run_of(asked: Request) -> Run:
    """What a request says of scoring. Models that adapters make are kept in a folder of the sweep's own."""
    return Run(
        batch_size=asked.batch_size,
        device=asked.device,
        limit=asked.limit,
        include_path=asked.include_path,
        seed=asked.seed,
        options=MergeOptions(lora_merge_cache=str(asked.output / ADAPTERS)),
    )


def load_done(output: Path) -> dict[str, Kept]:
    """What is finished in an output folder, by key; what failed is to be run again."""
    every: list[Kept] = [*read_cells(output), *read_unlabelled(output)]
    return {kept.key: kept for kept in every if kept.status == "ok"}


def check_jobs(jobs: Iterable[Job], run: Run) -> None:
    """Find what is wrong with the inputs before anything is run.

    Raises:
        UserError: a task that does not exist, or a recipe that `mergekit-yaml` would refuse.
    """
    jobs = list(jobs)
    task_manager(sorted({task for job in jobs for task in job.tasks}), run.include_path)
    for recipe in {job.recipe.path: job.recipe for job in jobs}.values():
        _open(recipe, {}, run)


class Opened:
    """What jobs have open: checkpoints, plans of recipes and the loaded model, which take seconds to get."""

    def __init__(self, jobs: Iterable[Job]):
        """
        Args:
            jobs: all that will be run; their tasks are loaded together.
        """
        self._tensors: TensorCache = {}
        self._contents: dict[ModelReference, str] = {}
        self._merges: dict[str, MemoryMerge] = {}
        self._scorer: Scorer | None = None
        self._loaded: tuple[str, ...] | None = None
        self._tasks: dict[tuple[str, ...], set[str]] = {}
        for job in jobs:
            self._tasks.setdefault(job.recipe.start, set()).update(job.tasks)

    def merge(self, recipe: Recipe, run: Run) -> MemoryMerge:
        """The recipe's plan; its checkpoints' contents are known then."""
        if recipe.path not in self._merges:
            merge = self._merges[recipe.path] = _open(recipe, self._tensors, run)
            for model in merge.cast.models:
                if model not in self._contents:
                    with translated(f"{model}: cannot be read"):
                        self._contents[model] = fingerprint(model, run.options)
        return self._merges[recipe.path]

    def keys(self, job: Job, run: Run) -> Keys:
        """The content hash of every cell of a job."""
        return _keys(job, self.merge(job.recipe, run), self._contents, run)

    def scorer(self, recipe: Recipe, run: Run) -> Scorer:
        """The recipe's task model, attached to its plan."""
        merge = self.merge(recipe, run)
        if self._loaded != recipe.start or self._scorer is None:
            self._scorer = None  # so that two models are never in memory
            self._scorer = _scorer(recipe, merge, sorted(self._tasks[recipe.start]), run)
            self._loaded = recipe.start
        merge.attach(self._scorer.model)
        return self._scorer

    def close(self, recipe: Recipe, still_needed: set[ModelReference]) -> None:
        """Let go of a recipe, and of the checkpoints that no later one names."""
        self._merges.pop(recipe.path).close(still_needed)


def run_jobs(
    jobs: Iterable[Job], run: Run, done: dict[str, Kept], opened: Opened | None = None
) -> Iterator[tuple[Kept, bool]]:
    """Score every cell of some jobs, and predict what has no labels.

    Args:
        jobs: jobs of recipes with the same θ₀ and task model share tensors and the loaded model.
        done: what is finished, by key; it is not run again, and what is new is added.
        opened: what is open, and stays so for the next jobs; else all is closed as soon as it can be.

    Yields:
        Every cell and prediction as soon as it is there, and whether it is new.
    """
    jobs = sorted(jobs, key=lambda job: (job.recipe.start, job.recipe.path))
    needed = [job.recipe.inputs for job in jobs]
    here = opened or Opened(jobs)
    position = 0
    for _, of_recipe in itertools.groupby(jobs, key=lambda job: job.recipe.path):
        group = list(of_recipe)
        position += len(group)
        recipe = group[0].recipe
        merge = here.merge(recipe, run)
        for job in group:
            keys = here.keys(job, run)
            scorer = None if done.keys() >= set(keys.values()) else here.scorer(recipe, run)
            for point in job.points:
                yield from _run_point(job, point, keys, merge, scorer, run, done)
        if opened is None:
            here.close(recipe, set().union(*needed[position:]))


def tensors_of(recipe: Recipe, run: Run) -> list[str]:
    """The tensors that a recipe merges, as its output calls them.

    Raises:
        UserError: what `mergekit-yaml` would refuse.
    """
    return _open(recipe, {}, run).names


def _open(recipe: Recipe, tensors: TensorCache, run: Run) -> MemoryMerge:
    try:
        return MemoryMerge(recipe.config, recipe.text, tensors, run.options)
    except UserError as error:
        raise UserError(f"{recipe.path}: {error.message}") from error


def _keys(job: Job, merge: MemoryMerge, contents: dict[ModelReference, str], run: Run) -> Keys:
    """The content hash of every cell of a job.

    Args:
        contents: content hash of each checkpoint.
    """
    keys: Keys = {}
    for point in job.points:
        if point is None:
            made_of: Any = contents[merge.cast.task]
        else:
            made_of = at_point(job.recipe, own_parameters(job.recipe, point))
            if merge.cast.names_base:
                made_of["base_model"] = contents[merge.cast.base]
            if merge.seed:  # of methods that draw at random
                made_of["random_seed"] = merge.seed
            for entry, model in zip(made_of["models"], job.recipe.models, strict=True):
                entry["model"] = contents[model]
        parts = {"recipe": made_of, "limit": run.limit, "seed": run.seed}
        for task in job.tasks:
            keys[point, Cell, task] = _hash(parts | {"task": task})
            if job.keep_predictions:
                keys[point, Unlabelled, task] = _hash(parts | {"unlabelled": task})
        if job.text:
            keys[point, Unlabelled, job.text.name] = _hash(parts | {"unlabelled": job.text.content})
    return keys


def _hash(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _scorer(recipe: Recipe, merge: MemoryMerge, tasks: list[str], run: Run) -> Scorer:
    task = merged_checkpoint(merge.cast.task, run.options)
    with translated(f"{merge.cast.task}: cannot be scored"):
        architectures = task.config(trust_remote_code=run.options.trust_remote_code).architectures
        return Scorer(
            task.model.path,
            (architectures or [""])[0],
            tasks,
            dtype=recipe.config.out_dtype or recipe.config.dtype,
            batch_size=run.batch_size,
            device=run.device,
            limit=run.limit,
            include_path=run.include_path,
        )


def _run_point(
    job: Job,
    point: Parameters | None,
    keys: Keys,
    merge: MemoryMerge,
    scorer: Scorer | None,
    run: Run,
    done: dict[str, Kept],
) -> Iterator[tuple[Kept, bool]]:
    """What is kept of one point: merged once where a part of it is not done, then scored task by task."""
    merged: float | None = None
    not_merged: str | None = None
    names = [*job.tasks, *([job.text.name] if job.text else [])]
    for name in names:
        wanted = {kind: keys[point, kind, name] for kind in (Cell, Unlabelled) if (point, kind, name) in keys}
        for key in wanted.values():
            if key in done:
                # As it is called now: it may have been scored under another path.
                yield done[key].model_copy(update={"recipe": job.recipe.path}), False
        missing = {kind: key for kind, key in wanted.items() if key not in done}
        if not missing:
            continue
        assert scorer is not None, "loaded where a key is not done"
        score = Score({})
        evaluated: float | None = None
        reason = not_merged
        try:
            if merged is None and reason is None:
                began = time.perf_counter()
                merge.merge_at(point)
                merged = time.perf_counter() - began
            if reason is None:
                began = time.perf_counter()
                score = scorer.score(name) if name in job.tasks else _read(job, scorer)
                evaluated = time.perf_counter() - began
        except Exception as error:  # whatever it is, it is of this cell, and the others go on
            reason = one_line(error)
            not_merged = reason if merged is None else None
        common: dict[str, Any] = {
            "recipe": job.recipe.path,
            "variant": MODEL if point is None else job.recipe.variant,
            "parameters": Parameters() if point is None else own_parameters(job.recipe, point),
            "task": name,
            "seed": run.seed,
            "status": "failed" if reason else "ok",
            "reason": reason,
        }
        for kind, key in missing.items():
            kept: Kept
            if kind is Unlabelled:
                kept = Unlabelled(key=key, log_probabilities=score.log_probabilities, **common)
            else:
                benchmark, language = _subject(name, job.recipe)
                kept = Cell(
                    key=key,
                    benchmark=benchmark,
                    language=language,
                    model=str(job.recipe.config.base_model or ""),
                    split=scorer.split(name),
                    metrics=score.metrics,
                    documents=score.documents,
                    coverage=score.coverage,
                    seconds=Seconds(merge=merged, evaluate=evaluated),
                    versions=_versions(),
                    **common,
                )
            if kept.status == "ok":
                done[key] = kept
            yield kept, True


def _read(job: Job, scorer: Scorer) -> Score:
    assert job.text is not None
    return Score({}, log_probabilities=scorer.classify(job.text.documents, job.text.name))


def _subject(task: str, recipe: Recipe) -> tuple[str | None, str | None]:
    """Benchmark and language of a task: the catalog's, else the recipe's."""
    if task in known_tasks():
        benchmark, language, _ = known_tasks()[task]
        return benchmark, language
    return recipe.benchmark, recipe.language


@cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
