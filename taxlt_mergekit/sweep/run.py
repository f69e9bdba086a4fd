"""The paper's search: every recipe at every point of a grid, scored; nothing is written but results.

A cell is one point on one task. Its key is a hash of what it is made of (recipe, contents of checkpoints,
task), so a sweep that is started again runs what is missing or has changed, and nothing else.
"""

import hashlib
import importlib.metadata
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mergekit.common import ModelReference
from mergekit.options import MergeOptions

from taxlt_mergekit.cells.store import Cell, Documents, Parameters, Seconds, read_cells
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.evaluate.scorer import Scorer, task_manager
from taxlt_mergekit.paper.catalog import known_tasks
from taxlt_mergekit.paper.variants import MODEL
from taxlt_mergekit.sweep.memory import MemoryMerge, TensorCache, fingerprint
from taxlt_mergekit.sweep.points import at_point, own_parameters
from taxlt_mergekit.sweep.recipe import Recipe, _models, start

_PACKAGES = ("taxlt-mergekit", "mergekit", "lm-eval", "transformers", "torch")


@dataclass(frozen=True)
class Run:
    """How cells are scored; all of it is part of what `mergekit-yaml` and `lm_eval` would be told."""

    batch_size: int | str = 32
    device: str | None = None
    limit: int | None = None
    include_path: tuple[str, ...] = ()
    seed: int | None = None
    options: MergeOptions = field(default_factory=MergeOptions)


@dataclass(frozen=True)
class Job:
    """One recipe with the points and tasks it is to be scored at."""

    recipe: Recipe
    points: tuple[Parameters | None, ...]  # None is MODEL
    tasks: tuple[str, ...]


def check_jobs(jobs: Iterable[Job], run: Run) -> None:
    """Find what is wrong with the inputs before anything is run.

    Raises:
        UserError: a task that does not exist, or a recipe that `mergekit-yaml` would refuse.
    """
    jobs = list(jobs)
    task_manager(sorted({task for job in jobs for task in job.tasks}), run.include_path)
    for recipe in {job.recipe.path: job.recipe for job in jobs}.values():
        _open(recipe, {}, run)


def run_jobs(jobs: Iterable[Job], run: Run, done: dict[str, Cell]) -> Iterator[tuple[Cell, bool]]:
    """Score every cell of some jobs.

    Args:
        jobs: jobs of recipes with the same θ₀ and task model share tensors and the loaded model.
        done: finished cells by key; they are not run again, and new ones are added.

    Yields:
        Every cell as soon as it is there, and whether it is new.
    """
    jobs = sorted(jobs, key=lambda job: (start(job.recipe), job.recipe.path))
    needed = [{job.recipe.config.base_model, *_models(job.recipe)} for job in jobs]
    cache: TensorCache = {}
    contents: dict[ModelReference, str] = {}
    scorer: Scorer | None = None
    loaded: tuple | None = None
    position = 0
    for _, of_recipe in itertools.groupby(jobs, key=lambda job: job.recipe.path):
        group = list(of_recipe)
        recipe = group[0].recipe
        merge = _open(recipe, cache, run)
        for model in merge.cast.models:
            if model not in contents:
                contents[model] = fingerprint(model, run.options)
        for job in group:
            position += 1
            keys = _keys(job, merge, contents, run)
            if not all(key in done for key in keys.values()) and loaded != start(recipe):
                tasks = sorted({t for o in jobs for t in o.tasks if start(o.recipe) == start(recipe)})
                scorer = None  # so that two models are never in memory
                scorer, loaded = _scorer(recipe, merge, tasks, run), start(recipe)
            for point in job.points:
                yield from _run_point(job, merge, scorer, point, keys, run, done)
        merge.close(set().union(*needed[position:]))


@cache
def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _open(recipe: Recipe, cache: TensorCache, run: Run) -> MemoryMerge:
    try:
        return MemoryMerge(recipe.config, recipe.text, cache, run.options)
    except UserError as error:
        raise UserError(f"{recipe.path}: {error.message}") from error


def _run_point(
    job: Job,
    merge: MemoryMerge,
    scorer: Scorer | None,
    point: Parameters | None,
    keys: dict[tuple[Parameters | None, str], str],
    run: Run,
    done: dict[str, Cell],
) -> Iterator[tuple[Cell, bool]]:
    merged: float | None = None
    reason: str | None = None
    for task in job.tasks:
        key = keys[point, task]
        if key in done:
            # As it is called now: it may have been scored under another path.
            yield done[key].model_copy(update={"recipe": job.recipe.path}), False
            continue
        assert scorer is not None, "loaded where a key is not done"
        metrics: dict[str, float] = {}
        documents: Documents | None = None
        evaluated: float | None = None
        try:
            if merged is None and reason is None:
                began = time.perf_counter()
                merge.merge_into(scorer.model, point)
                merged = time.perf_counter() - began
            if reason is None:
                began = time.perf_counter()
                metrics, documents = scorer.score(task)
                evaluated = time.perf_counter() - began
        except (UserError, RuntimeError, MemoryError) as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
        benchmark, language = _task_subject(task, job.recipe)
        cell = Cell(
            key=key,
            recipe=job.recipe.path,
            benchmark=benchmark,
            language=language,
            variant=MODEL if point is None else job.recipe.variant,
            model=str(job.recipe.config.base_model),
            parameters=Parameters() if point is None else own_parameters(job.recipe, point),
            split=scorer.split(task),
            task=task,
            metrics=metrics,
            documents=documents,
            seed=run.seed,
            status="failed" if reason else "ok",
            reason=reason,
            seconds=Seconds(merge=merged, evaluate=evaluated),
            versions=versions(),
        )
        if cell.status == "ok":
            done[key] = cell
        yield cell, True


def _keys(
    job: Job, merge: MemoryMerge, contents: dict[ModelReference, str], run: Run
) -> dict[tuple[Parameters | None, str], str]:
    """The content hash of every cell of a job.

    Args:
        contents: content hash of each checkpoint.
    """
    keys = {}
    for point in job.points:
        if point is None:
            made_of: Any = contents[merge.cast.task]
        else:
            made_of = at_point(job.recipe, own_parameters(job.recipe, point))
            made_of["base_model"] = contents[merge.cast.base]
            for entry, model in zip(made_of["models"], _models(job.recipe), strict=True):
                entry["model"] = contents[model]
        for task in job.tasks:
            parts = {"recipe": made_of, "task": task, "limit": run.limit, "seed": run.seed}
            keys[point, task] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return keys


def _scorer(recipe: Recipe, merge: MemoryMerge, tasks: list[str], run: Run) -> Scorer:
    task = merge.cast.task
    if task.lora:
        raise UserError(f"{task}: a sweep needs the task model whole; merge its adapter first")
    architecture = task.config(trust_remote_code=run.options.trust_remote_code).architectures[0]
    return Scorer(
        task.model.path,
        architecture,
        tasks,
        dtype=recipe.config.out_dtype or recipe.config.dtype,
        batch_size=run.batch_size,
        device=run.device,
        limit=run.limit,
        include_path=run.include_path,
    )


def _task_subject(task: str, recipe: Recipe) -> tuple[str | None, str | None]:
    if task in known_tasks():
        benchmark, language, _ = known_tasks()[task]
        return benchmark, language
    return recipe.benchmark, recipe.language


def load_done(output: Path) -> dict[str, Cell]:
    """Finished cells of an output folder by key; failed ones are to be run again."""
    return {cell.key: cell for cell in read_cells(output) if cell.status == "ok"}


def count_cells(jobs: Iterable[Job]) -> int:
    return sum(len(job.points) * len(job.tasks) for job in jobs)


def dev_jobs(recipes: Iterable[Recipe], points: Callable[[Recipe], list[Parameters]]) -> Iterator[Job]:
    """The search: MODEL once for each task model and task, and every recipe at every point."""
    with_model: set[tuple] = set()
    for recipe in recipes:
        fresh = tuple(task for task in recipe.tasks if (start(recipe), task) not in with_model)
        with_model |= {(start(recipe), task) for task in fresh}
        if fresh:
            yield Job(recipe, (None,), fresh)
        yield Job(recipe, tuple(points(recipe)), recipe.tasks)
