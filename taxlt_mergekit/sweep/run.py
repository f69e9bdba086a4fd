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

from taxlt_mergekit.cells.store import Cell, Coverage, Documents, Parameters, Seconds, read_cells
from taxlt_mergekit.errors import UserError, one_line, translated
from taxlt_mergekit.evaluate.scorer import Scorer, task_manager
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

# (point, task) -> content hash of the cell
Keys = dict[tuple[Parameters | None, str], str]


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


def load_done(output: Path) -> dict[str, Cell]:
    """Finished cells of an output folder by key; failed ones are to be run again."""
    return {cell.key: cell for cell in read_cells(output) if cell.status == "ok"}


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
    jobs = sorted(jobs, key=lambda job: (job.recipe.start, job.recipe.path))
    needed = [{job.recipe.config.base_model, *job.recipe.models} for job in jobs]
    tensors: TensorCache = {}
    contents: dict[ModelReference, str] = {}
    scorer: Scorer | None = None
    loaded: tuple | None = None
    position = 0
    for _, of_recipe in itertools.groupby(jobs, key=lambda job: job.recipe.path):
        group = list(of_recipe)
        position += len(group)
        recipe = group[0].recipe
        merge = _open(recipe, tensors, run)
        for model in merge.cast.models:
            if model not in contents:
                with translated(f"{model}: cannot be read"):
                    contents[model] = fingerprint(model, run.options)
        for job in group:
            keys = _keys(job, merge, contents, run)
            if not done.keys() >= set(keys.values()):
                if loaded != recipe.start:
                    tasks = {t for other in jobs if other.recipe.start == recipe.start for t in other.tasks}
                    scorer = None  # so that two models are never in memory
                    scorer, loaded = _scorer(recipe, merge, sorted(tasks), run), recipe.start
                assert scorer is not None
                merge.attach(scorer.model)
            for point in job.points:
                yield from _run_point(job, point, keys, merge, scorer, run, done)
        merge.close(set().union(*needed[position:]))


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
    keys = {}
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
        for task in job.tasks:
            parts = {"recipe": made_of, "task": task, "limit": run.limit, "seed": run.seed}
            keys[point, task] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return keys


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
    done: dict[str, Cell],
) -> Iterator[tuple[Cell, bool]]:
    """The cells of one point: merged once where one of them is not done, then scored task by task."""
    merged: float | None = None
    not_merged: str | None = None
    for task in job.tasks:
        key = keys[point, task]
        if key in done:
            # As it is called now: it may have been scored under another path.
            yield done[key].model_copy(update={"recipe": job.recipe.path}), False
            continue
        assert scorer is not None, "loaded where a key is not done"
        metrics: dict[str, float] = {}
        documents: Documents | None = None
        coverage: Coverage | None = None
        evaluated: float | None = None
        reason = not_merged
        try:
            if merged is None and reason is None:
                began = time.perf_counter()
                merge.merge_at(point)
                merged = time.perf_counter() - began
            if reason is None:
                began = time.perf_counter()
                metrics, documents, coverage = scorer.score(task)
                evaluated = time.perf_counter() - began
        except Exception as error:  # whatever it is, it is of this cell, and the others go on
            reason = one_line(error)
            not_merged = reason if merged is None else None
        benchmark, language = _subject(task, job.recipe)
        cell = Cell(
            key=key,
            recipe=job.recipe.path,
            benchmark=benchmark,
            language=language,
            variant=MODEL if point is None else job.recipe.variant,
            model=str(job.recipe.config.base_model or ""),
            parameters=Parameters() if point is None else own_parameters(job.recipe, point),
            split=scorer.split(task),
            task=task,
            metrics=metrics,
            documents=documents,
            coverage=coverage,
            seed=run.seed,
            status="failed" if reason else "ok",
            reason=reason,
            seconds=Seconds(merge=merged, evaluate=evaluated),
            versions=_versions(),
        )
        if cell.status == "ok":
            done[key] = cell
        yield cell, True


def _subject(task: str, recipe: Recipe) -> tuple[str | None, str | None]:
    """Benchmark and language of a task: the catalog's, else the recipe's."""
    if task in known_tasks():
        benchmark, language, _ = known_tasks()[task]
        return benchmark, language
    return recipe.benchmark, recipe.language


@cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
