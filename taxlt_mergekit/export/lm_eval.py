"""The benchmarks as tasks of lm-eval's own repository: YAML that needs nothing of this package.

One folder a benchmark, named and laid out as those of lm_eval/tasks. The short files are written by the
script that goes with them. MARC is not among them: its publisher withdrew it.
"""

import re
import runpy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxlt_mergekit.export.scripts import generator
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import Benchmark
from taxlt_mergekit.paper.tasks import task_config, task_folder, to_yaml

TEMPLATE = "_default_template_yaml"


@dataclass(frozen=True)
class Source:
    """Where lm-eval finds a benchmark's rows on the hub: parquet, at a fixed commit.

    Attributes:
        path: `dataset_path` of the YAML.
        repository, revision: the data set and its commit.
        files: of a data set that has no usable configurations, the address of a language's file.
        note: what a reader of the README should know.
    """

    path: str
    repository: str
    revision: str
    files: str | None = None
    note: str = "one configuration a language."


SOURCES = {
    "americas_nli": Source(
        "nala-cub/americas_nli", "nala-cub/americas_nli", "668b53909c205ece201487394833a36ebab47245"
    ),
    "nusax": Source(
        "parquet",
        "indonlp/NusaX-senti",
        "66b88ab2484bc28b7017a522f6edb5517126a527",
        "hf://datasets/{repository}@{revision}/{code}/nusa_x-senti-{split}.parquet",
        "the hub's conversion. The data set itself is a loading script, which `datasets` 4 and later refuse.",
    ),
    "xnli": Source("facebook/xnli", "facebook/xnli", "b8dd5d7af51114dbda02c0e3f6133f332186418e"),
}
# A line each for lm_eval/tasks/README.md.
LINES = {
    "americas_nli": (
        "Natural language inference in ten Indigenous languages of the Americas.",
        "Aymara, Asháninka, Bribri, Guarani, Náhuatl, Otomí, Quechua, Rarámuri, Shipibo-Konibo, Wixarika",
    ),
    "nusax": (
        "Sentiment of short texts in ten local languages of Indonesia, Indonesian and English.",
        "Acehnese, Balinese, Banjarese, Buginese, English, Indonesian, Javanese, Madurese, Minangkabau, "
        "Ngaju, Sundanese, Toba Batak",
    ),
    "xnli": (
        "XNLI's test split, for cross-lingual transfer, with an English prompt in every language.",
        "Arabic, Bulgarian, Chinese, English, French, German, Greek, Hindi, Russian, Spanish, Swahili, Thai, "
        "Turkish, Urdu, Vietnamese",
    ),
}


def task_files() -> dict[str, str]:
    """Every file, by its path below lm_eval/tasks, and `README_lines.md`: the lines for the README there."""
    files = {}
    lines = []
    for name in SOURCES:
        benchmark = catalog.load().benchmarks[name]
        folder = _static_files(name, benchmark) | {"_generate_configs.py": _generator(name, benchmark)}
        for path, text in _generated(folder).items():
            files[f"{benchmark.group}/{path}"] = text
        what, languages = LINES[name]
        lines.append(f"| [{benchmark.group}]({benchmark.group}/README.md) | {what} | {languages} |\n")
    return files | {"README_lines.md": "".join(lines)}


def _static_files(name: str, benchmark: Benchmark) -> dict[str, str]:
    source = SOURCES[name]
    config: dict[str, Any] = {"dataset_path": source.path}
    if source.files is None:
        config["dataset_kwargs"] = {"revision": source.revision}
    config |= task_config(benchmark, "utils") | {"metadata": {"version": 1.0}}
    files = {TEMPLATE: to_yaml(config), "README.md": _readme(name, benchmark)}
    if benchmark.metric == "f1_macro":
        functions = (task_folder() / benchmark.group / "metrics.py").read_text(encoding="utf-8")
        files["utils.py"] = functions.replace("\n\nLABELS", "\n\n\nLABELS")  # as its formatter wants it
    return files


def _generated(static: dict[str, str]) -> dict[str, str]:
    """A folder's files with those that its generator writes."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in static.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        runpy.run_path(str(Path(folder, "_generate_configs.py")), run_name="__main__")
        written = sorted(Path(folder).glob("*.yaml"))
        return static | {path.name: path.read_text(encoding="utf-8") for path in written}


def _generator(name: str, benchmark: Benchmark) -> str:
    source = SOURCES[name]
    metrics = ["f1_macro", "acc"] if benchmark.metric == "f1_macro" else ["acc"]
    address = source.files and source.files.replace("{repository}", source.repository).replace(
        "{revision}", source.revision
    )
    return generator(benchmark.group, metrics, benchmark.languages, benchmark.outside_mean, address)


def _readme(name: str, benchmark: Benchmark) -> str:
    """The README, from that of our own folder, in the form of lm-eval's template for new tasks."""
    ours = (task_folder() / benchmark.group / "README.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", ours, flags=re.M | re.S))
    source, group = SOURCES[name], benchmark.group
    # What only this package has: the tasks on validation data, and heads that read columns.
    paper = re.sub(r", and keep the validation split \(`\w+`\) for choosing a model", "", sections["Paper"])
    prompt = re.sub(r" Sequence-classification heads .*", "\n", sections["Prompt"], flags=re.S)
    checklist = re.sub(r" Scores of classification heads .*?loop\.", "", sections["Checklist"], flags=re.S)
    scores = "macro-F1 (`f1_macro`) and accuracy" if benchmark.metric == "f1_macro" else "accuracy"
    groups = [f"* `{group}`: the unweighted mean over {len(benchmark.languages)} languages of {scores}."]
    if benchmark.outside_mean:
        others = ", ".join(benchmark.outside_mean.values())
        groups.append(f"* `{group}_all`: the group, and outside its mean {others}.")
    tasks = [f"* `{group}_{code}`: {language}" for code, language in benchmark.tasks.items()]
    metric = "" if benchmark.metric == "acc" else MACRO_F1
    return "\n\n".join(
        [
            ours.partition("\n")[0],
            f"## Paper\n{paper.rstrip()}",
            f"### Citation\n{sections['Citation'].rstrip()}",
            "### Groups, Tags, and Tasks",
            "#### Groups",
            "\n".join(groups),
            "#### Tags",
            "None.",
            "#### Tasks",
            "All on the test split.",
            "\n".join(tasks),
            f"### Data\n\n`{source.repository}` at commit `{source.revision}`, parquet; {source.note}",
            f"### Prompt\n{prompt.rstrip()}",
            *([metric] if metric else []),
            f"### Checklist\n{checklist.rstrip()}",
            f"### Changelog\n{sections['Changelog'].rstrip()}\n",
        ]
    )


MACRO_F1 = """### Metric

`f1_macro` is the unweighted mean of the classes' F1. Its standard error is a bootstrap's, an aggregation
beside it (`f1_macro_stderr`), which draws all resamples of the documents in one array operation;
`bootstrap_stderr(f1_macro, …)` of lm-eval gives the same figure."""
