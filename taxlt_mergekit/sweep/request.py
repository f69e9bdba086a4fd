"""What a user asks of `taxlt sweep`: the flags, checked by themselves and against the recipes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.criteria.names import BALANCE, LABELS, OTHERS
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.sweep.points import FACTORS, grid_points, parse_values

if TYPE_CHECKING:  # it imports mergekit, which takes seconds
    from taxlt_mergekit.sweep.recipe import Recipe

# Flags whose values make the grid.
_VARIED = ("weight", "source_weight", "target_weight", "density")

# Points that `--per-group` tries where `--trials` does not say.
TRIALS = 40


@dataclass(frozen=True)
class Request:
    """A sweep, as the flags of the same names say it.

    Attributes:
        values: values of the flags that were given of `--weight`, `--source-weight`, `--target-weight` and
            `--density`, as `grid_points` takes them.
        per_language: choose a point for each recipe, not one for a benchmark's languages together.
        ray: address of a Ray cluster, or None.
        select_by: name of a criterion; None where none was named, which means `labels`.
        text: file of documents without labels; `{language}` stands for a recipe's language.
        trials: how many points are tried of λ by group of tensors; 0 where it is not searched.
    """

    recipes: tuple[Path, ...]
    values: Mapping[str, list[float]]
    selects: tuple[str, ...]
    scope: str | None
    output: Path
    tasks: str | None
    test_tasks: str | None
    include_path: tuple[str, ...]
    per_language: bool
    test: bool
    batch_size: int | str
    device: str | None
    limit: int | None
    seed: int | None
    ray: str | None
    select_by: str | None
    text: str | None
    trials: int

    @property
    def criterion(self) -> str:
        """Which criterion chooses."""
        return self.select_by or LABELS

    @property
    def compares(self) -> bool:
        """Whether criteria that read no labels are computed."""
        return bool(self.text) or self.select_by is not None or self.trials > 0

    @property
    def without_labels(self) -> bool:
        """Whether the validation tasks that a recipe's name tells are left alone: text stands for them."""
        return bool(self.text) and not self.tasks and self.criterion not in (LABELS, OTHERS)

    def points(self, recipe: "Recipe") -> list[Parameters]:
        """The grid for the vectors that a recipe has."""
        return grid_points(
            sorted(recipe.roles),
            **self.values,
            select=self.selects,
            scope=self.scope,
            varied=recipe.varied,
        )


def check_flags(
    recipes: Sequence[Path], selects: tuple[str, ...], scope: str | None, batch_size: str, **flags: Any
) -> Request:
    """The request that the flags make; nothing heavy is imported for it.

    Args:
        flags: the others of `taxlt sweep`, by the names that click gives them.

    Raises:
        UserError: no recipes, flags that contradict one another, or a value out of range.
    """
    if not recipes:
        raise UserError("name RECIPES to sweep, such as merge_configs/*_plus_tgt.yml, or --reproduce table2")
    grid = {name: text for name in _VARIED if (text := flags.pop(name))}
    if "weight" in grid and ("source_weight" in grid or "target_weight" in grid):
        raise UserError(
            "--weight sets source and target together; give it or --source-weight/--target-weight"
        )
    values = {name: parse_values(text, _flag(name)) for name, text in (grid or {"weight": FACTORS}).items()}
    for share in values.get("density", []):
        if not 0 < share <= 1:
            raise UserError(
                f"--density {grid['density']}: every share must be above 0 and at most 1, not {share:g}"
            )
    if (selects or scope) and "density" not in values:
        raise UserError("--select and --scope say which entries a density keeps; give --density too")
    per_group, trials = flags.pop("per_group"), flags.pop("trials")
    if per_group:
        _check_per_group(values, **flags)
    elif trials is not None:
        raise UserError("--trials goes with --per-group")
    if not (batch_size == "auto" or (batch_size.isdecimal() and int(batch_size) > 0)):
        raise UserError(f"--batch-size {batch_size}: a number above 0, or auto")
    return Request(
        recipes=tuple(dict.fromkeys(recipes)),
        values=values,
        selects=selects,
        scope=scope,
        per_language=flags.pop("select_per") == "language",
        batch_size=int(batch_size) if batch_size.isdecimal() else batch_size,
        trials=(trials or TRIALS) if per_group else 0,
        **flags,
    )


def _check_per_group(
    values: Mapping[str, list[float]], select_by: str | None, ray: str | None, **_others: Any
) -> None:
    """Refuse what does not go with a search of λ by group.

    Raises:
        UserError: names the flag.
    """
    for name in values.keys() - {"weight"}:
        raise UserError(f"--per-group varies λ of all language vectors together; leave out {_flag(name)}")
    if len(set(values["weight"])) < 2:
        raise UserError("--per-group takes λ from the values of --weight; give at least two")
    if select_by not in (None, LABELS, BALANCE):
        raise UserError(f"--per-group: searches by {LABELS} or {BALANCE}, not --select-by {select_by}")
    if ray is not None:
        raise UserError("--per-group: a trial waits for the one before it; leave out --ray")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def check_recipes(recipes: Iterable["Recipe"], asked: Request) -> None:
    """Refuse recipes that the flags do not fit.

    Raises:
        UserError: a recipe without tasks, or without a vector to vary, or two recipes of one name.
    """
    varied = {role for role in ("source", "target") if f"{role}_weight" in asked.values}
    paths: dict[str, str] = {}
    for recipe in recipes:
        if not recipe.tasks and not asked.without_labels:
            raise UserError(
                f"{recipe.path}: no validation task is known by this name; give --tasks, or name it "
                "<language>_<variant>.yml; without labels: --text FILE --select-by balance"
            )
        if asked.test and not recipe.test_tasks:
            raise UserError(f"{recipe.path}: --test needs --test-tasks where --tasks is given")
        if varied and not recipe.roles & varied:
            raise UserError(f"{recipe.path}: has no {' or '.join(sorted(varied))} vector to vary")
        other = paths.setdefault(Path(recipe.path).name, recipe.path)
        if other != recipe.path:
            raise UserError(
                f"{other} and {recipe.path} have one name, and best/ has one place for it; "
                "sweep them with an --output of their own each"
            )
