"""Rows of the tables, by a recipe a language: which vectors go to which task model, by which method."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vectors
import yaml
from languages import SOURCE

ADD, SUBTRACT, TIES, MEAN = "xlt_additive", "xlt_analogy", "xlt_ties", "xlt_linear"
CONTROL = "control:"
DENSITIES = "0.05,0.1,0.2,0.5,0.9"


@dataclass(frozen=True)
class Languages:
    """What is compared with what.

    Attributes:
        targets: languages whose vector is added.
        seen: the language of a control that θ₀ has seen, and that is no target.
    """

    targets: Sequence[str]
    seen: str = "jav"

    def other(self, target: str) -> str:
        """The target before this one: its vector is a control."""
        return self.targets[self.targets.index(target) - 1]


@dataclass(frozen=True)
class Kind:
    """Recipes that are swept together.

    Attributes:
        recipes: file name → recipe, for languages, a seed and a task model's folder.
        row: what their row is called; None leaves it to the method and the roles.
        weights: the grid of λ.
        more: other flags of the search on validation data.
        model: what MODEL is called where it is another task model; None where it is the common one.
    """

    recipes: Any
    row: str | None = None
    weights: str = "0.1:1.5:0.1"
    more: Sequence[str] = ()
    model: str | None = None

    @property
    def is_control(self) -> bool:
        """Whether its vector is of another language than the target."""
        return bool(self.row) and str(self.row).startswith(CONTROL)


def _recipe(method: str, task: str, added: Mapping[str, str], weight: float | None = 1.0) -> dict[str, Any]:
    """A recipe; `added` is role → folder."""
    own = {"weight": 1.0} if method == TIES else {}
    models = [{"model": task, "parameters": {"role": "task"} | own}]
    models += [
        {"model": path, "parameters": {"role": role, "weight": weight}} for role, path in added.items()
    ]
    return {"merge_method": method, "base_model": vectors.THETA0, "models": models, "dtype": "float32"}


def _target(languages: Languages, seed: int, task: str) -> Iterator[tuple[str, dict]]:
    for code in languages.targets:
        yield f"{code}_plus_tgt", _recipe(ADD, task, {"target": vectors.language_folder(seed, code)})


def _with_source(languages: Languages, seed: int, task: str) -> Iterator[tuple[str, dict]]:
    source = {"source": vectors.language_folder(seed, SOURCE)}
    for code in languages.targets:
        both = source | {"target": vectors.language_folder(seed, code)}
        yield f"{code}_plus_src", _recipe(ADD, task, source)
        yield f"{code}_plus_src_plus_tgt", _recipe(ADD, task, both)
        yield f"{code}_minus_src_plus_tgt", _recipe(SUBTRACT, task, both)


def _other(languages: Languages, seed: int, task: str) -> Iterator[tuple[str, dict]]:
    for code in languages.targets if len(languages.targets) > 1 else ():
        yield (
            f"{code}_plus_tgt",
            _recipe(ADD, task, {"target": vectors.language_folder(seed, languages.other(code))}),
        )


def _seen(languages: Languages, seed: int, task: str) -> Iterator[tuple[str, dict]]:
    for code in languages.targets:
        yield (
            f"{code}_plus_tgt",
            _recipe(ADD, task, {"target": vectors.language_folder(seed, languages.seen)}),
        )


def _ties(languages: Languages, seed: int, task: str) -> Iterator[tuple[str, dict]]:
    for code in languages.targets:
        yield f"{code}_plus_tgt.ties", _recipe(TIES, task, {"target": vectors.language_folder(seed, code)})


def _slow(languages: Languages, seed: int, task: str) -> Iterator[tuple[str, dict]]:
    for code in languages.targets:
        yield f"{code}_plus_tgt", _recipe(ADD, task, {"target": vectors.language_folder(seed, code, "slow")})


def _sparse(languages: Languages, seed: int, task: str) -> Iterator[tuple[str, dict]]:
    sparse = vectors.task_folder(seed, vectors.SPARSE)
    for code in languages.targets:
        yield (
            f"{code}_plus_tgt",
            _recipe(ADD, sparse, {"target": vectors.language_folder(seed, code, "sparse")}),
        )


KINDS: Mapping[str, Kind] = {
    "target": Kind(_target),
    "other": Kind(_other, f"{CONTROL} another target's vector"),
    "source": Kind(_with_source),
    "seen": Kind(_seen, f"{CONTROL} a seen language's vector"),
    "ties": Kind(_ties, weights="0.3:1.5:0.3", more=("--density", "0.2,0.5,1")),
    "soup": Kind(_target, "mean of the task models, +TGT", model="mean of the task models"),
    "slow": Kind(_slow, f"+TGT, vectors trained at {vectors.SLOW_RATE:g}"),
    "frozen": Kind(_target, "task model with θ₀'s embeddings, +TGT", model="task model with θ₀'s embeddings"),
    "lt_sft": Kind(_sparse, "LT-SFT", weights="1"),
}


def write(folder: Path, place: str, kind: str, languages: Languages, seed: int, task: str) -> dict[str, str]:
    """Write a kind's recipes below `folder`; file name without its end → path from there."""
    paths = {}
    for stem, recipe in KINDS[kind].recipes(languages, seed, task):
        paths[stem] = f"{place}/{kind}/{stem}.yml"
        path = folder / paths[stem]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return paths


def soup(tasks: Sequence[str]) -> dict[str, Any]:
    """The mean of several task models with their heads (Wortsman et al. 2022)."""
    models = [{"model": path, "parameters": {"role": "task", "weight": 1.0}} for path in tasks]
    return {"merge_method": MEAN, "models": models, "dtype": "float32"}
