"""By labels: those of the language itself, or those of other languages."""

from taxlt_mergekit.cells.selection import Grid, complete
from taxlt_mergekit.criteria.curve import Curve, mean_curve


def labels(scores: Grid) -> Curve:
    """The average validation score over the languages (the paper's protocol, section 3).

    Args:
        scores: of one variant; of a grid with holes the part counts that compares.
    """
    full = complete(scores)
    columns = {column for row in full.values() for column in row}
    return mean_curve([{point: row[column] for point, row in full.items()} for column in sorted(columns)])


def others(scores: Grid, language: str) -> Curve:
    """The same average without the language itself, whose labels are then not read.

    What held for other languages is the usual advice where a language has no labels; the paper has it as
    table 9, one λ for a benchmark's languages.
    """
    rows = {point: {c: score for c, score in row.items() if c != language} for point, row in scores.items()}
    return labels({point: row for point, row in rows.items() if row})
