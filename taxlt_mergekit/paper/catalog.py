"""The paper's benchmarks, models and languages (`catalog.yaml`), typed, and the names built on them."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

Size = Literal["base", "large"]
# A part of a data set, and the data that a task scores: `<group>_dev_<code>` is on the validation part.
Part = Literal["train", "validation", "test"]
Split = Literal["dev", "test"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(_Entry):
    """A pre-trained model of the paper: its hub id and the folder its vectors stand in."""

    id: str
    folder: str


class Hub(_Entry):
    """Arguments of `datasets.load_dataset`. Without `data_files` the configuration is the language code."""

    path: str
    data_files: dict[Part, str] | None = None


class Benchmark(_Entry):
    """One of the paper's four benchmarks (tables 5 and 6)."""

    title: str
    group: str
    task_vector: Literal["multinli", "marc", "smsa"]
    source: str
    labels: tuple[str, ...]
    inputs: tuple[str, ...]
    metric: Literal["acc", "f1_macro"]
    hub: Hub | None = None
    files: dict[Part, tuple[str, ...]]
    recipe_prefix: str
    languages: dict[str, str]
    outside_mean: dict[str, str] = {}

    @property
    def tasks(self) -> dict[str, str]:
        """All language codes that have an evaluation task, with the language's name."""
        return self.languages | self.outside_mean

    def fill(self, pattern: str, code: str) -> str:
        """A pattern of `files` or of the hub's `data_files` for one language: {code} and {folder}."""
        return pattern.format(code=code, folder=self.tasks[code].lower().replace(" ", "_"))


class Catalog(_Entry):
    models: dict[Size, Model]
    benchmarks: dict[str, Benchmark]
    sources: dict[str, str]


@cache
def load() -> Catalog:
    """Read the packaged `catalog.yaml`."""
    text = files("taxlt_mergekit.paper").joinpath("catalog.yaml").read_text(encoding="utf-8")
    return Catalog.model_validate(yaml.safe_load(text))


@cache
def known_tasks() -> dict[str, tuple[str, str, Split]]:
    """Task name -> (benchmark, language, split), from the catalog: `<group>_<code>`, `<group>_dev_<code>`."""
    names: dict[str, tuple[str, str, Split]] = {}
    for benchmark, entry in load().benchmarks.items():
        for code in entry.tasks:
            names[f"{entry.group}_{code}"] = (benchmark, code, "test")
            names[f"{entry.group}_dev_{code}"] = (benchmark, code, "dev")
    return names


def vector_folder(model: str, kind: str, name: str) -> str:
    """Where recipes look for a vector: `vectors/<last part of the model's name>/<lang|task>/<name>`."""
    return str(Path("vectors", Path(model).name, kind, name))


def size_of(model: str) -> Size | None:
    """Which of the paper's models a hub id or a folder's name means: `base`, `large`, or None."""
    return next((size for size, entry in load().models.items() if entry.folder == Path(model).name), None)


def hub_id(model: str) -> str:
    """The hub id of one of the paper's models, however it is named; another model's name as it is."""
    size = size_of(model)
    return load().models[size].id if size else model


def recipe_path(benchmark: str, size: Size, variant: str, language: str | None) -> str:
    """Where a recipe stands below the folder of recipes: `de_plus_tgt.yml`, `marc_de_plus_tgt.yml`.

    XLM-R large has a folder of its own. A recipe without a target language is named after its benchmark:
    `nusax_plus_src.yml`.
    """
    subject = f"{load().benchmarks[benchmark].recipe_prefix}{language}" if language else benchmark
    folder = "" if size == "base" else f"{load().models[size].folder}/"
    return f"{folder}{subject}_{variant}.yml"


def recipe_subject(name: str) -> tuple[str | None, str | None]:
    """Benchmark and language of a recipe's name before the variant; of a foreign name (None, the name)."""
    for key, benchmark in load().benchmarks.items():
        if name == key:
            return key, None
        code = name.removeprefix(benchmark.recipe_prefix)
        if code in benchmark.languages and name == f"{benchmark.recipe_prefix}{code}":
            return key, code
    return None, name
