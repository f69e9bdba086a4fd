"""Criteria that were tried and did not earn a place in the package, as choices for `taxlt report` to compare.

    cd WORLD && python experiments/rejected.py CHOICE SOURCE

adds theirs to the sweep in CHOICE. A process a world: mergekit keeps what it has read by the name that
recipes give, which is the same in every world. docs/choosing-lambda.md has the figures.
"""

import random
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import click
import numpy as np
import torch
from mergekit.options import MergeOptions
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from taxlt_mergekit.cells.choices import Choice, Rated, append_choices, read_choices
from taxlt_mergekit.cells.selection import metric_of
from taxlt_mergekit.cells.store import Cell, Parameters, read_cells
from taxlt_mergekit.cells.unlabelled import read_unlabelled
from taxlt_mergekit.criteria.balance import balance, entropy
from taxlt_mergekit.criteria.curve import Curve, Predictions, point_of, sizes
from taxlt_mergekit.demo import files
from taxlt_mergekit.paper.variants import MODEL
from taxlt_mergekit.sweep.memory import MemoryMerge
from taxlt_mergekit.sweep.recipe import read_recipe

LINES, HIDDEN, LENGTH = 300, 0.15, 64


def information(predictions: Predictions) -> Curve:
    """Entropy of the mean prediction less the mean entropy of each: their mutual information with documents.

    Bridle, Heading and MacKay 1991; Liang, Hu and Feng 2020 (SHOT) train by it.
    """
    even = balance(predictions)
    return {point: even[point] - fmean(map(entropy, p)) for point, p in predictions.items()}


def agreement(predictions: Predictions) -> Curve:
    """The share of documents with the same prediction at neighbouring λ, averaged over the neighbours.

    The stability principle of choosing a model without labels (Lange et al. 2004, *Stability-based validation
    of clustering solutions*).
    """
    points = sorted(predictions, key=sizes)
    classes = [predictions[point].argmax(axis=1) for point in points]
    alike = [float((one == other).mean()) for one, other in pairwise(classes)]
    return {point: fmean(alike[max(0, number - 1) : number + 1]) for number, point in enumerate(points)}


def ensemble(predictions: Predictions) -> Curve:
    """Agreement with the mean of the predictions over the grid, as if that were the truth."""
    together = np.mean(list(predictions.values()), axis=0).argmax(axis=1)
    return {point: float((p.argmax(axis=1) == together).mean()) for point, p in predictions.items()}


def source(scores: Mapping[Parameters, float], model: float, cost: float = 0.01) -> Curve:
    """The largest λ that costs the source language at most one point of MODEL's score."""
    return {
        point: sum(sizes(point)) if model - score <= cost + 1e-9 else score - model
        for point, score in scores.items()
    }


@click.command()
@click.argument("choice", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(choice: Path, source: Path) -> None:
    """Add choices to the sweep in CHOICE; SOURCE scores its recipes on the source language."""
    append_choices(choice, list(choices(choice, source)))


def choices(choice: Path, source_scores: Path) -> Iterator[Choice]:
    """What each of them chooses, for every recipe that has choices in a sweep's folder.

    Args:
        choice: the sweep on unlabelled documents.
        source_scores: a sweep of the same recipes on the source language's validation task.
    """
    lines = [line for line in read_unlabelled(choice) if line.variant != MODEL]
    scored = read_cells(source_scores)
    model = next(_score(cell) for cell in scored if cell.variant == MODEL)
    kept = [record for record in read_choices(choice) if record.criterion == "fixed"]
    done = {(record.recipe, record.criterion) for record in read_choices(choice)}
    for record in kept:
        predictions = {
            line.parameters: np.exp(np.array(line.log_probabilities))
            for line in lines
            if line.recipe == record.recipe
        }
        own = {c.parameters: _score(c) for c in scored if c.recipe == record.recipe and c.variant != MODEL}
        curves = {
            "agreement": agreement(predictions),
            "entropy": information(predictions),
            "ensemble": ensemble(predictions),
            "source": source(own, model),
        }
        if (record.recipe, "perplexity") not in done:
            curves["perplexity"] = perplexity(record.recipe, str(record.language), list(predictions))
        for name, curve in curves.items():
            if (record.recipe, name) in done:
                continue
            point = point_of(curve)
            assert point is not None
            rated = tuple(Rated(parameters=p, value=round(value, 6)) for p, value in curve.items())
            update = {"key": f"{record.key} {name}", "criterion": name, "parameters": point, "curve": rated}
            yield record.model_copy(update=update)


def perplexity(recipe: str, language: str, points: list[Parameters]) -> Curve:
    """Minus the masked-LM loss, in nats a token, of the merged body under θ₀'s head on raw target text."""
    task = files.vector("task", files.TASK)
    tokenizer = AutoTokenizer.from_pretrained(task)
    classifier = AutoModelForSequenceClassification.from_pretrained(task).eval()
    masked = AutoModelForMaskedLM.from_pretrained(files.BASE).eval()
    setattr(masked, masked.base_model_prefix, getattr(classifier, classifier.base_model_prefix))
    masked.tie_weights()
    text = Path(files.text_file("text", language)).read_text(encoding="utf-8").splitlines()[:LINES]
    encoded = tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]
    draw, special = random.Random(0), set(tokenizer.all_special_ids)
    rows = []
    for ids in encoded:
        hidden = [i for i, token in enumerate(ids) if token not in special and draw.random() < HIDDEN]
        if hidden:
            given = [tokenizer.mask_token_id if i in hidden else token for i, token in enumerate(ids)]
            rows.append((torch.tensor([given]), hidden, torch.tensor([ids[i] for i in hidden])))
    found = read_recipe(Path(recipe), files.task(language, "dev"))
    merge = MemoryMerge(found.config, found.text, {}, MergeOptions())
    merge.attach(classifier)
    curve = {}
    for point in points:
        merge.merge_at(point)
        with torch.inference_mode():
            losses = [
                torch.nn.functional.cross_entropy(masked(ids).logits[0, hidden], right, reduction="sum")
                for ids, hidden, right in rows
            ]
        curve[point] = -float(sum(losses)) / sum(len(hidden) for _, hidden, _ in rows)
    return curve


def _score(cell: Cell) -> float:
    return cell.metrics[metric_of(cell)]


if __name__ == "__main__":
    main()
