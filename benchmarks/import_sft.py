"""Time and memory of `taxlt import sft` at XLM-R base size, beside copying the checkpoint.

    python benchmarks/import_sft.py               # makes 1.1 GB of random weights, about two minutes

A random float32 checkpoint (278 M parameters) and a file of 7.6 million differences, 2 million of them in the
embeddings, stand in a temporary folder. Copying is a plain file copy of the weights, in turn with the import.
Import is measured as the whole command, and without what any Python with torch and transformers needs
before it begins (`taxlt import sft` of a file that is not there). Needs Linux for the memory: anonymous
pages, without those of mapped files.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

CHANGED, IN_EMBEDDINGS = 7_600_000, 2_000_000


def make(folder: Path) -> None:
    """θ₀ and a file in the form of the published ones, numpy's number at the start of each list too."""
    config = XLMRobertaConfig(
        vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
    )
    torch.manual_seed(0)
    model = XLMRobertaForMaskedLM(config)
    model.save_pretrained(folder / "theta0")
    (folder / "theta0" / "tokenizer_config.json").write_text("{}")
    matrices = {
        name: tensor.shape
        for name, tensor in model.named_parameters()
        if name.startswith("roberta.encoder") and tensor.dim() == 2
    }
    total = sum(shape.numel() for shape in matrices.values())
    counts = {name: shape.numel() * (CHANGED - IN_EMBEDDINGS) // total for name, shape in matrices.items()}
    embeddings = "roberta.embeddings.word_embeddings.weight"
    matrices[embeddings], counts[embeddings] = model.get_parameter(embeddings).shape, IN_EMBEDDINGS
    draw = np.random.default_rng(0)
    diffs = {}
    for name, shape in matrices.items():
        found = np.unique(draw.integers(0, shape.numel(), counts[name]))
        steps = [found[0], *np.diff(found).tolist()]
        diffs[name] = {"size": shape, "index_steps": steps, "values": 0.01 * torch.randn(len(found))}
    (folder / "sft").mkdir()
    torch.save({"diffs": diffs, "abs": {}}, folder / "sft" / "pytorch_diff.bin")


def run(folder: Path, source: str, output: str) -> tuple[float, float]:
    """Seconds and peak anonymous gigabytes of one `taxlt import sft`."""
    command = [sys.executable, "-m", "taxlt_mergekit", "import", "sft", source, "--model", "theta0"]
    os.sync()
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [*command, "--lang", "xx", "--output", output],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.02)
    return time.perf_counter() - start, peak / 1e9


def anonymous(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Pairs of copy and import.")
def main(rounds: int) -> None:
    """Print medians of seconds, the ratio, and peak private memory."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder)
        weights, copied = folder / "theta0" / "model.safetensors", []
        imported, memory, starts = [], [], []
        for _ in range(rounds):
            os.sync()
            start = time.perf_counter()
            shutil.copyfile(weights, folder / "copy.safetensors")
            copied.append(time.perf_counter() - start)
            starts.append(run(folder, "./missing", "out")[0])
            seconds, peak = run(folder, "sft", "out")
            if not (folder / "out" / "config.json").exists():
                raise click.ClickException("the import failed")
            imported.append(seconds)
            memory.append(peak)
            shutil.rmtree(folder / "out")
        copy, whole, start = map(statistics.median, (copied, imported, starts))
        click.echo(f"copy {copy:.2f} s; import {whole:.2f} s, of which start-up {start:.2f} s")
        click.echo(f"ratio without start-up {(whole - start) / copy:.2f}, with it {whole / copy:.2f}")
        click.echo(f"private memory {max(memory):.2f} GB")


if __name__ == "__main__":
    main()
