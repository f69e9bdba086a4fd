"""Which point a search tries next: optuna's TPE sampler over the values of a grid."""

from collections.abc import Sequence
from typing import Any

from taxlt_mergekit.errors import UserError

# Always the same, so that a search that goes on asks for the same points again.
SEED = 0


class Sampler:
    """Asks for one point after the other, and is told what each is worth.

    Tree-structured Parzen estimators (Bergstra et al. 2011, *Algorithms for hyper-parameter optimization*),
    in optuna's default setting: the second to tenth point are drawn at random, later ones where good points
    lie denser than others. Nothing is kept: the same answers lead to the same questions.
    """

    def __init__(self, names: Sequence[str], values: Sequence[float], first: float):
        """
        Args:
            names: what has a λ of its own.
            values: what each λ is taken from; their order is what makes two of them near.
            first: one of them, which all have at the first point.

        Raises:
            UserError: optuna is not installed.
        """
        self._optuna = optuna = load_optuna()
        self._values = sorted(set(values))
        place = optuna.distributions.IntDistribution(0, len(self._values) - 1)
        self._places = dict.fromkeys(names, place)
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
        self._study.enqueue_trial(dict.fromkeys(names, self._values.index(first)))
        self._asked: Any = None

    def ask(self) -> dict[str, float]:
        """The next point: name → λ."""
        self._asked = self._study.ask(self._places)
        return {name: self._values[place] for name, place in self._asked.params.items()}

    def tell(self, value: float | None) -> None:
        """What the point is worth, more being better; None where it could not be scored."""
        failed = self._optuna.trial.TrialState.FAIL
        self._study.tell(self._asked, value, state=failed if value is None else None)


def load_optuna() -> Any:
    """The library, which says nothing but warnings.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("--per-group needs optuna: pip install 'taxlt-mergekit[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
