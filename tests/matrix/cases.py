"""The merges that the installed transformers makes possible: a language model's class, a task model's."""

from dataclasses import dataclass, replace

import transformers
from transformers.models.auto import modeling_auto

# What it is → transformers' mapping from a model type to the class of this head.
LANGUAGE_MODELS = {
    "masked": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "causal": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "text to text": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "vision and language": "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "pretraining": "MODEL_FOR_PRETRAINING_MAPPING_NAMES",
}
HEADS = {
    "sequences": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "tokens": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "spans": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "choice": "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
}
SAME = "itself"
ALIASES = {"gpt-sw3"}  # GPT-2 under a second name
GENERATIVE = ("causal", "text to text", "vision and language")


@dataclass(frozen=True)
class Case:
    """One merge: θ₀ and the language models of one class, the task model of another.

    Attributes:
        model_type: as config.json names it.
        head: what the task model is for, a key of `HEADS`, or `SAME`.
        language_model: name of the language models' class, and of θ₀'s.
        task: name of the task model's class.
        body: name of the class without head that language models are saved as; empty where they keep theirs.
        headless_base: θ₀ is saved without head too.
    """

    model_type: str
    head: str
    language_model: str
    task: str
    body: str = ""
    headless_base: bool = False

    @property
    def base(self) -> str:
        """Name of θ₀'s class."""
        return self.body if self.headless_base else self.language_model

    @property
    def language(self) -> str:
        """Name of the class that the language models are saved as."""
        return self.body or self.language_model

    @property
    def name(self) -> str:
        """A name to type: `bert:BertForMaskedLM>BertForQuestionAnswering`."""
        language = "" if self.language == self.base else f"+{self.language}"
        return f"{self.model_type}:{self.base}{language}>{self.task}"


def all_cases() -> list[Case]:
    """Every merge, sorted by name; a class that stands in several mappings is counted once a model type."""
    heads = {head: _classes(mapping) for head, mapping in HEADS.items()}
    bodies = _classes("MODEL_MAPPING_NAMES")
    families = {family: _classes(mapping) for family, mapping in LANGUAGE_MODELS.items()}
    known = set().union(*families.values())
    # CANINE and some others have no class for pretraining, so their language models have no head.
    families["none"] = {kind: body for kind, body in bodies.items() if kind not in known}
    cases: dict[str, Case] = {}
    for family, classes in families.items():
        for model_type, language_model in sorted(classes.items()):
            tasks = {head: found[model_type] for head, found in heads.items() if model_type in found}
            body = bodies.get(model_type, language_model)
            found = [Case(model_type, head, language_model, task) for head, task in tasks.items()]
            if family in GENERATIVE:
                found.append(Case(model_type, SAME, language_model, language_model))
            if "sequences" in tasks and body != language_model:
                # Sentence encoders and many releases are saved without a head.
                with_head = Case(model_type, "sequences", language_model, tasks["sequences"], body)
                found += [with_head, replace(with_head, headless_base=True)]
            for case in found:
                cases.setdefault(case.name, case)
    return sorted(cases.values(), key=lambda case: case.name)


def _classes(mapping: str) -> dict[str, str]:
    names = getattr(modeling_auto, mapping)
    first = {kind: name if isinstance(name, str) else name[0] for kind, name in names.items()}
    return {k: name for k, name in first.items() if hasattr(transformers, name) and k not in ALIASES}
