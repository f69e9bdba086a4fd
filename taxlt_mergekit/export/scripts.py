"""The script that writes a task folder's short files, as it goes with the folder to lm-eval."""

from collections.abc import Mapping, Sequence


def generator(
    group: str,
    metrics: Sequence[str],
    languages: Mapping[str, str],
    others: Mapping[str, str],
    address: str | None,
) -> str:
    """The text of `_generate_configs.py`, which writes its folder's YAML files when it is run.

    Args:
        languages, others: code → name of the languages in the group's mean, and of those outside it.
        address: where a language's file is, with {code} and {split}; None: its code names a configuration.
    """
    outside = f"# These are tasks without a part in it.\n{_table('OTHERS', others)}" if others else ""
    return (
        _SCRIPT.replace("GROUP_NAME", group)
        .replace("METRIC_NAMES", ", ".join(f'"{metric}"' for metric in metrics))
        .replace("LANGUAGE_TABLES\n", _table("LANGUAGES", languages) + outside)
        .replace("DATA\n", _FILES.replace("ADDRESS", address) if address else _CONFIGURATION)
        .replace("ALL_LANGUAGES", "LANGUAGES | OTHERS" if others else "LANGUAGES")
        .replace("SECOND_GROUP\n", _SECOND_GROUP if others else "")
    )


def _table(name: str, languages: Mapping[str, str]) -> str:
    lines = [f'    "{code}": "{language}",' for code, language in languages.items()]
    return "\n".join([f"{name} = {{", *lines, "}", ""])


_SCRIPT = '''"""Write the files of all languages and groups: `python _generate_configs.py`."""

from pathlib import Path

import yaml


FOLDER = Path(__file__).parent
GROUP = "GROUP_NAME"
METRICS = [METRIC_NAMES]
# The group's score is the mean over these languages.
LANGUAGE_TABLES


DATA


def write(name: str, config: dict) -> None:
    """Write a config as `name`.yaml."""
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=200)
    path = FOLDER / f"{name}.yaml"
    path.write_text(f"# Written by _generate_configs.py\\n{text}", encoding="utf-8")


def main() -> None:
    """Write every file."""
    for code in ALL_LANGUAGES:
        task = {"include": "_default_template_yaml", "task": f"{GROUP}_{code}"}
        write(f"{GROUP}_{code}", task | data(code))
    mean = {"aggregation": "mean", "weight_by_size": False}
    group = {
        "group": GROUP,
        "task": [f"{GROUP}_{code}" for code in LANGUAGES],
        "aggregate_metric_list": [{"metric": metric, **mean} for metric in METRICS],
        "metadata": {"version": 1.0},
    }
    write(f"_{GROUP}", group)
SECOND_GROUP


if __name__ == "__main__":
    main()
'''
_CONFIGURATION = '''def data(code: str) -> dict:
    """Return where the rows of a language are."""
    return {"dataset_name": code}
'''
_FILES = '''def data(code: str) -> dict:
    """Return where the rows of a language are."""
    files = "ADDRESS"
    splits = ("validation", "test")
    of_split = {split: files.format(code=code, split=split) for split in splits}
    return {"dataset_kwargs": {"data_files": of_split}}
'''
_SECOND_GROUP = """    more = {
        "group": f"{GROUP}_all",
        "task": [GROUP, *(f"{GROUP}_{code}" for code in OTHERS)],
        "metadata": {"version": 1.0},
    }
    write(f"_{GROUP}_all", more)
"""
