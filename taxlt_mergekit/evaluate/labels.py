"""Which columns of a document a classification head reads, and which of its labels a choice is. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taxlt_mergekit.errors import UserError

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


def choice_labels(
    choices: Sequence[str],
    named: Sequence[str] | None,
    document: Mapping[str, Any],
    id2label: Mapping[int, str],
    task: str,
) -> tuple[Sequence[str], bool]:
    """The label names that a task's choices stand for, and whether their order is only assumed.

    Taken from, in this order: the names that the data set gives its labels; the choices themselves, where
    they are the head's labels or NLI's usual answers; XNLI's order, for three choices on a premise and a
    hypothesis with numbered labels, which all NLI data sets of lm-eval follow.

    Args:
        choices: what the task lets a generative model answer.
        named: the data set's label names, in the order of the choices, or None.
        document: one of the task's documents.
        id2label: the head's label names by column.
        task: the task's name, for the error.

    Raises:
        UserError: none of these says.
    """
    if named is not None and len(named) == len(choices):
        return named, False
    is_nli = len(choices) == len(NLI) and {"premise", "hypothesis"} <= set(document)
    names = [canonical(choice) for choice in choices]
    if is_nli:
        names = [NLI_ANSWERS.get(choice, choice) for choice in names]
    if sorted(names) in (sorted(map(canonical, id2label.values())), sorted(NLI)):
        return names, False
    if is_nli and isinstance(document.get("label"), int):
        return NLI, True
    raise UserError(
        f"{task}: hf-seq-cls can't tell which label each choice stands for ({', '.join(choices)})"
    )


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


def check_labels(config: Any, model: str, warn: Callable[[str], None]) -> None:
    """Hold a head's `id2label`, by which its columns are named, against the rest of its config.

    Args:
        config: the model's.
        model: its name, for errors.
        warn: told where `label2id` says something else.

    Raises:
        UserError: labels that are not numbered 0, 1, … as the head's columns are.
    """
    id2label = {int(column): str(name) for column, name in config.id2label.items()}
    if sorted(id2label) != list(range(len(id2label))):
        raise UserError(
            f"hf-seq-cls: {model}: id2label in its config.json numbers its labels "
            f"{', '.join(map(str, sorted(id2label)))}, not from 0 to {len(id2label) - 1}"
        )
    label2id = {str(name): column for name, column in (config.label2id or {}).items()}
    other = {name: column for name, column in label2id.items() if id2label.get(int(column)) != name}
    if other and not has_no_names({int(column): name for name, column in label2id.items()}):
        name, column = next(iter(other.items()))
        warn(
            f"{model}: in its config.json label2id says that {name} is {column}, id2label that {column} is "
            f"{id2label.get(int(column))}; id2label counts"
        )


def has_no_names(id2label: Mapping[int, str]) -> bool:
    """Whether a head's labels are transformers' place-holders, `LABEL_0` or `0` and so on."""
    return all(re.fullmatch(rf"(label_)?{number}", canonical(name)) for number, name in id2label.items())


def canonical(label: str) -> str:
    """A label's name without what makes no difference: case, hyphens and spaces, common synonyms."""
    name = re.sub(r"[\s_-]+", "_", label.strip().lower())
    return SYNONYMS.get(name, name)
