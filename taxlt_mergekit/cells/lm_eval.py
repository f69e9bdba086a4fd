"""Reads what ``lm_eval --output_path DIR --log_samples`` writes, as cells: one for every task."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from taxlt_mergekit.cells.store import Cell, Coverage, Documents, Parameters
from taxlt_mergekit.cells.unlabelled import normalised
from taxlt_mergekit.errors import translated
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import Split, hub_id, known_tasks, size_of
from taxlt_mergekit.paper.variants import MODEL, VARIANTS, split_recipe_name, variant_of

_OF_PAPER = {variant.merge_method for variant in VARIANTS.values()}

# lm-eval puts the time of the run at the end of the names of its files.
DATED = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json$")


def is_results_file(path: Path) -> bool:
    """Whether a file has a name that lm-eval gives to its results."""
    return path.suffix == ".json" and (path.name.startswith("results_") or bool(DATED.search(path.name)))


def by_date(path: Path) -> tuple[str, str]:
    """Sort key of results files: the time of the run, as their names tell it."""
    date = DATED.search(path.name)
    return (date[1] if date else "", path.name)


def read_lm_eval(
    path: Path, label: Callable[[str, Path], str | None] = lambda name, path: None
) -> list[Cell]:
    """The cells of one results file of lm-eval, and of the samples files of the same run beside it.

    θ₀, variant and λ come from the recipe that the model carried, where one of our methods merged it: as
    `hf-seq-cls` noted it in the results, else as it stands in the model's folder, if no merge came after the
    run. Else θ₀ comes from a folder named like one of the paper's models, and the variant from the folder's
    name (`quy_plus_tgt`, `task/multinli`), or is that name as it is.

    Args:
        path: `results_<date>.json`.
        label: the variant that the user names a model, or None; gets the model as lm-eval was given it, and
            `path`.

    Returns:
        One cell a task, `model` empty where θ₀ is not known. `documents` are null without samples, and where
        a task's samples do not tell a label (anything but multiple choice). A part of a task, scored with
        ``--limit`` or ``--samples``, never has the key of the whole.

    Raises:
        UserError: not a results file of lm-eval.
    """
    with translated(f"{path}: not a results file of lm_eval"):
        run = json.loads(path.read_bytes())  # finds out whether it is UTF-8 or UTF-16
        name = str(run.get("model_name") or run["config"]["model"])
        recipe = _recipe(run, Path(name))
        versions = {
            package: str(run[field])
            for package, field in (("lm_eval", "lm_eval_version"), ("transformers", "transformers_version"))
            if run.get(field)
        }
        tasks = [task for task in run["configs"] if task in run["results"]]
        return [_cell(path, run, name, task, recipe, versions, label) for task in tasks]


def _cell(
    path: Path,
    run: Mapping[str, Any],
    name: str,
    task: str,
    recipe: Any,
    versions: dict[str, str],
    label: Callable[[str, Path], str | None],
) -> Cell:
    config, date = run["configs"][task], DATED.search(path.name)
    split: Split = "test" if config.get("test_split") else "dev"
    benchmark, language, split = known_tasks().get(task, (None, None, split))
    variant, model, parameters = _describe(name, language, recipe)
    covered = coverage(run, task)
    labels = _logged_documents(path.with_name(f"samples_{task}_{date[1]}.jsonl"), config) if date else None
    if labels and covered and len(labels.target) != covered.scored:
        labels = None  # the samples' file is not whole
    cell = Cell(
        key="",
        benchmark=benchmark,
        language=language,
        variant=label(name, path) or variant,
        model=model,
        parameters=parameters,
        split=split,
        task=task,
        metrics=plain_metrics(run["results"][task]),
        documents=labels,
        coverage=covered,
        versions=versions,
    )
    identity = [str(path.parent.resolve()), name, task]
    if covered is not None and cell.is_part:
        identity.append(covered.text)
    return cell.model_copy(update={"key": hashlib.sha256("\n".join(identity).encode()).hexdigest()})


def coverage(run: Mapping[str, Any], task: str) -> Coverage | None:
    """How many of a task's documents were scored, as lm-eval's results tell.

    Those of older versions do not count them; a limit says that it was a part.
    """
    counts = run.get("n-samples", {}).get(task)
    if counts is not None:
        return Coverage(scored=counts["effective"], total=counts["original"])
    limit = (run.get("config") or {}).get("limit")
    return None if limit is None else Coverage(scored=run["results"][task].get("sample_len", 0), total=None)


def plain_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """`acc,none` -> `acc`; of several filters the first that lm-eval lists counts."""
    metrics: dict[str, float] = {}
    for name, value in values.items():
        metric, comma, _ = name.partition(",")
        if comma and isinstance(value, int | float) and math.isfinite(value):
            metrics.setdefault(metric, float(value))
    return metrics


def documents(
    samples: Iterable[Mapping[str, Any]], choices: Callable[[Mapping[str, Any]], Sequence[str]]
) -> Documents | None:
    """Label indices from lm-eval's samples of a multiple-choice task, in the order of its documents.

    A prediction is the choice with the highest log-likelihood, as lm-eval has it the first of equals.

    Args:
        samples: one a document and filter; the first filter counts.
        choices: a sample's choices, for samples whose target is a choice's text and not its number.

    Returns:
        None where a document has several right choices, or none.
    """
    try:
        every = sorted(samples, key=lambda row: row["doc_id"])
        rows = [row for row in every if row["filter"] == every[0]["filter"]]
        return Documents(
            target=tuple(
                choices(row).index(row["target"]) if isinstance(row["target"], str) else int(row["target"])
                for row in rows
            ),
            prediction=tuple(
                int(np.argmax([float(choice[0]) for choice in row["filtered_resps"]])) for row in rows
            ),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def log_probabilities(samples: Iterable[Mapping[str, Any]]) -> tuple[tuple[float, ...], ...]:
    """Of each choice, from lm-eval's samples of a multiple-choice task, in the order of its documents.

    Args:
        samples: one a document and filter; the first filter counts. Their targets are not read.
    """
    every = sorted(samples, key=lambda row: row["doc_id"])
    rows = [row for row in every if row["filter"] == every[0]["filter"]]
    return tuple(normalised(tuple(float(choice[0]) for choice in row["filtered_resps"])) for row in rows)


def _describe(name: str, language: str | None, recipe: Any) -> tuple[str, str, Parameters]:
    """Variant, θ₀ and parameters of the model that lm-eval was given as `name`, and that carried `recipe`."""
    path = Path(name)
    model = next((hub_id(part) for part in reversed(path.parts) if size_of(part)), "")
    task_vectors = {entry.task_vector for entry in catalog.load().benchmarks.values()}
    if path.name in task_vectors and path.parent.name == "task":
        return MODEL, model, Parameters()
    named = split_recipe_name(path.name)
    subjects = [named[0] or ""] if named else []
    variant, parameters = named[1] if named else path.name, Parameters()
    if described := _described(recipe):
        variant, model, parameters, targets = described
        subjects += [Path(target).name for target in targets]
    if any(_made_for_another(subject, language) for subject in subjects):
        variant = path.name
    return variant, model, parameters


def _made_for_another(prefix: str, language: str | None) -> bool:
    """Whether a recipe's prefix (`marc_de`) or a vector's folder (`de`) is of another language."""
    codes = {code for entry in catalog.load().benchmarks.values() for code in entry.languages}
    code = prefix.rpartition("_")[2]
    return language is not None and code in codes and code != language


def _recipe(run: Mapping[str, Any], model: Path) -> Any:
    """The recipe of the model that was scored, where it is known for certain."""
    config = run.get("config") or {}
    file = model / "mergekit_config.yml"
    try:
        if "mergekit_config" in config:
            return yaml.safe_load(config["mergekit_config"] or "")
        # lm-eval's other models don't note it. What was merged after the run is another model.
        if file.stat().st_mtime <= float(run.get("date") or math.inf):
            return yaml.safe_load(file.read_bytes())
        return None
    except (OSError, TypeError, ValueError, yaml.YAMLError):
        return None


def _described(recipe: Any) -> tuple[str, str, Parameters, list[str]] | None:
    """Variant, θ₀, parameters and target models of a recipe, if it is one of ours."""
    try:
        weights: dict[str, set[float]] = {"source": set(), "target": set()}
        densities: set[float] = set()
        targets, roles = [], []
        for entry in recipe["models"]:
            parameters = entry.get("parameters") or {}
            if parameters.get("role") in weights:
                roles.append(parameters["role"])
                if recipe["merge_method"] in _OF_PAPER or "weight" in parameters:
                    weights[parameters["role"]].add(float(parameters["weight"]))
                densities.add(float(parameters.get("density", 1.0)))
                targets += [str(entry["model"])] if parameters["role"] == "target" else []
        variant = variant_of(recipe["merge_method"], roles)
        if variant is None or any(len(values) > 1 for values in (*weights.values(), densities)):
            return None
        shared = recipe.get("parameters") or {}
        sparse = densities - {1.0} != set()
        of_paper = sparse and recipe["merge_method"] in _OF_PAPER
        return (
            variant,
            str(recipe.get("base_model") or ""),
            Parameters(
                source_weight=next(iter(weights["source"]), None),
                target_weight=next(iter(weights["target"]), None),
                density=densities.pop() if sparse else None,
                select=shared.get("select", "top") if of_paper else None,
                scope=shared.get("scope", "global") if of_paper else None,
            ),
            targets,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        # Another method's recipe, or λ that differ by layer: the folder's name has to do.
        return None


def _logged_documents(path: Path, config: Mapping[str, Any]) -> Documents | None:
    """The documents of a samples file, in which lm-eval has made a text of every target."""
    if config.get("output_type") != "multiple_choice" or not path.is_file():
        return None
    with translated(f"{path}: not a samples file of lm_eval"):
        text = path.read_bytes()
        rows = [
            json.loads(line) for line in text.decode(json.detect_encoding(text)).split("\n") if line.strip()
        ]

    def with_number(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"target": int(row["target"])} if row["target"].isdecimal() else row

    def choices(row: Mapping[str, Any]) -> Sequence[str]:
        listed = config.get("doc_to_choice")
        if isinstance(listed, list):
            return listed
        return [request["arg_1"].strip() for request in row["arguments"].values()]

    return documents(map(with_number, rows), choices)
