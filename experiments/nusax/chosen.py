"""What validation data chooses, all seeds together: a line `VARIANT λ LANGUAGE...` for each λ to be tested.

    python experiments/nusax/chosen.py seed-1/results seed-2/results

λ is chosen once for all languages together (the paper's protocol), and once for each language.
"""

from collections import defaultdict
from pathlib import Path

import click

from taxlt_mergekit.cells.collect import collect
from taxlt_mergekit.paper.variants import MODEL
from taxlt_mergekit.report.study import studies
from taxlt_mergekit.report.wording import weight_label


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--together", is_flag=True, help="Leave out what is chosen for each language.")
def main(results: tuple[Path, ...], together: bool) -> None:
    """Print the choices that RESULTS make."""
    for study in studies(collect(results).cells):
        for variant in (name for name in study.variants if name != MODEL):
            columns, _ = study.columns(study.grid(variant, "dev", sparse=False).values())
            languages: dict[str, set[str]] = defaultdict(set)
            for per_language in (False,) if together else (False, True):
                for language, parameters in study.choose(variant, False, columns, per_language).items():
                    languages[weight_label(parameters)].add(language)
            for weight, of_weight in sorted(languages.items()):
                print(variant, weight, *sorted(of_weight))


if __name__ == "__main__":
    main()
