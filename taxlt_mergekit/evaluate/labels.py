"""TODO"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from lm_eval.api.task import Task

from taxlt_mergekit.errors import UserError

# A child of lm-eval's own logger, so that its settings and its level hold.
logger = logging.getLogger("lm_eval.models.hf-seq-cls")


# The columns that a document's text can be in. A document is read where its text columns are one of these.
INPUTS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("title", "body"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text",),
    ("sentence",),
)


TEXT_COLUMNS = {name for names in INPUTS for name in names} | {"passage", "context", "query", "answer"}


NLI = ("entailment", "neutral", "contradiction")


# What a generative model answers in the prompts of lm-eval's NLI tasks.
NLI_ANSWERS = {"true": "entailment", "neither": "neutral", "false": "contradiction"}


SYNONYMS = {
    "pos": "positive",
    "neg": "negative",
    "neu": "neutral",
    "positif": "positive",
    "negatif": "negative",
    "netral": "neutral",
    "entail": "entailment",
    "entails": "entailment",
    "contradict": "contradiction",
    "contradicts": "contradiction",
}


def canonical(label: str) -> str:
    """A label's name without what makes no difference: case, hyphens and spaces, common synonyms."""
    name = re.sub(r"[\s_-]+", "_", label.strip().lower())
    return SYNONYMS.get(name, name)


def has_no_names(id2label: Mapping[int, str]) -> bool:
    """Whether a head's labels are transformers' place-holders, `LABEL_0` or `0` and so on."""
    return all(re.fullmatch(rf"(label_)?{number}", canonical(name)) for number, name in id2label.items())


def match_labels(id2label: Mapping[int, str], labels: Sequence[str], task: str) -> list[int]:
    """The head's column for each of a task's labels, found by name; in order where the head has no names.

    Args:
        id2label: the head's label names by column, from the model's config.
        labels: the task's label names, in the order of its choices.
        task: the task's name, for the error.

    Raises:
        UserError: the head has another number of labels, or other names.
    """
    if len(id2label) != len(labels):
        raise UserError(
            f"{task}: the head has {len(id2label)} labels ({', '.join(id2label.values())}), "
            f"the task {len(labels)} ({', '.join(labels)})"
        )
    if has_no_names(id2label):
        return list(range(len(labels)))
    columns = {canonical(name): column for column, name in id2label.items()}
    wanted = [canonical(label) for label in labels]
    if sorted(columns) != sorted(wanted):
        raise UserError(
            f"{task}: the head's labels ({', '.join(id2label.values())}) are not the task's "
            f"({', '.join(labels)}); name them so in id2label of the model's config.json"
        )
    return [columns[name] for name in wanted]


def input_columns(document: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """The columns of a document that a classifier reads: one text, or a pair.

    Raises:
        UserError: its text columns are none of `INPUTS`.
    """
    present = TEXT_COLUMNS & set(document)
    for names in INPUTS:
        if present == set(names):
            return names
    known = ", ".join("/".join(names) for names in INPUTS)
    raise UserError(
        f"{task}: hf-seq-cls can't tell what to read from the columns {', '.join(document)}; it knows {known}"
    )


def task_labels(
    task: Task | None,
    document: Mapping[str, Any],
    choices: Sequence[str],
    id2label: Mapping[int, str],
    name: str,
) -> Sequence[str]:
    """A task's label names in the order of its choices.

    Taken from, in this order: the `datasets.ClassLabel` that `doc_to_target` names; the choices themselves,
    where they are the head's labels or NLI's usual answers; XNLI's order, for three choices on a premise and
    a hypothesis with numbered labels, which all NLI data sets of lm-eval follow.

    Raises:
        UserError: none of these says.
    """
    target = task.config.doc_to_target if task is not None else None
    features = getattr(getattr(task, "task_docs", None), "features", None) or {}
    label = features.get(target) if isinstance(target, str) else None
    if isinstance(label, datasets.ClassLabel) and len(label.names) == len(choices):
        return label.names
    is_nli = len(choices) == len(NLI) and {"premise", "hypothesis"} <= set(document)
    names = [canonical(choice) for choice in choices]
    if is_nli:
        names = [NLI_ANSWERS.get(choice, choice) for choice in names]
    if sorted(names) in (sorted(map(canonical, id2label.values())), sorted(NLI)):
        return names
    if is_nli and isinstance(document.get("label"), int):
        logger.warning("%s: its labels have no names; taken as XNLI numbers them: %s", name, ", ".join(NLI))
        return NLI
    raise UserError(
        f"{name}: hf-seq-cls can't tell which label each choice stands for ({', '.join(choices)})"
    )
