"""The benchmarks, languages and scaling factors of `catalog.yaml`, typed and checked."""

from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

Variant = Literal["plus_src", "plus_tgt", "plus_src_plus_tgt", "minus_src_plus_tgt"]
Size = Literal["base", "large"]
Split = Literal["train", "validation", "test"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(_Entry):
    """A pre-trained model of the paper: its hub id and the folder its vectors stand in."""

    id: str
    folder: str


class Hub(_Entry):
    """Arguments of `datasets.load_dataset`. Without `data_files` the configuration is the language code."""

    path: str
    data_files: dict[Split, str] | None = None


class Benchmark(_Entry):
    """One of the paper's four benchmarks (tables 5, 6 and 9)."""

    title: str
    group: str
    task_vector: Literal["multinli", "marc", "smsa"]
    source: str
    labels: tuple[str, ...]
    inputs: tuple[str, ...]
    metric: Literal["acc", "f1_macro"]
    hub: Hub | None = None
    files: dict[Split, tuple[str, ...]]
    recipe_prefix: str
    scaling_factors: dict[Size, dict[Variant, float]]
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
    text = files("taxlt_mergekit").joinpath("catalog.yaml").read_text(encoding="utf-8")
    return Catalog.model_validate(yaml.safe_load(text))
