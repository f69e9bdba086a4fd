"""Time and memory of our merges beside stock mergekit's, as whole mergekit-yaml processes in turn.

    python benchmarks/merge.py                     # 278 M parameters (XLM-R base), about 20 minutes
    python benchmarks/merge.py --sizes 30,110,278  # how time and memory grow
    python benchmarks/merge.py --sizes 0.5b,2b --rounds 1    # decoders in bfloat16, in shards

Checkpoints are random ones in a temporary folder (or --folder, kept): XLM-R's form in float32, or Llama's
in bfloat16. For each size it prints medians of seconds and of peak private memory, the ratio to stock in the
same round, and the floor: reading all inputs and writing one output with plain file copies.
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
import yaml

# Size -> (vocabulary, hidden size, layers): encoders by millions of parameters, decoders by billions.
SHAPES = {"30": (50_000, 384, 6), "110": (120_000, 512, 12), "278": (250_002, 768, 12)}
DECODERS = {
    "0.5b": (128_256, 1024, 22),
    "2b": (128_256, 2048, 24),
    "4b": (128_256, 3072, 26),
    "8b": (128_256, 4096, 32),
}
STOCK_FLAGS = ("--allow-crimes", "--no-copy-tokenizer", "--no-write-model-card")


def make_models(folder: Path, size: str) -> None:
    """θ₀, a task model and language models: θ₀ plus noise."""
    (make_decoders if size in DECODERS else make_encoders)(folder, size)


def make_decoders(folder: Path, size: str) -> None:
    """θ₀, its chat model and one of a language, in bfloat16 and in shards of 2 GB."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.initialization import no_init_weights

    vocabulary, hidden, layers = DECODERS[size]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=8,
        intermediate_size=4 * hidden,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with no_init_weights():
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    needed = 5 * 2 * sum(parameter.numel() for parameter in model.parameters())
    if (free := shutil.disk_usage(folder).free) < needed:
        raise click.ClickException(
            f"{size}: needs {needed / 1e9:.0f} GB in {folder}, {free / 1e9:.0f} are free"
        )
    for name, spread in (("theta0", 0.02), ("task", 0.002), ("tgt", 0.002)):
        for parameter in model.parameters():
            noise = spread * torch.randn(parameter.shape, dtype=torch.bfloat16)
            parameter.data = noise if name == "theta0" else parameter.data + noise
        model.save_pretrained(folder / name, max_shard_size="2GB")


def make_encoders(folder: Path, size: str) -> None:
    """θ₀, a classifier, and two language models."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM, XLMRobertaForSequenceClassification

    vocabulary, hidden, layers = SHAPES[size]
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
        num_labels=3,
    )
    torch.manual_seed(0)
    model = XLMRobertaForMaskedLM(config)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder / "theta0")
    for name, this in (
        ("src", model),
        ("tgt", model),
        ("task", XLMRobertaForSequenceClassification(config)),
    ):
        for key, parameter in this.named_parameters():
            if key in start:
                parameter.data.copy_(start[key] + 0.002 * torch.randn_like(parameter))
        this.save_pretrained(folder / name)


def recipe(method: str, density: float | None, scope: str | None, of_decoders: bool = False) -> dict:
    """Task + 0.5 source + 0.9 target, in our terms or in stock mergekit's; decoders without a source."""
    ours = method.startswith("xlt_")
    models = []
    for name, role, weight in (("task", "task", 1.0), ("src", "source", 0.5), ("tgt", "target", 0.9)):
        if of_decoders and role == "source":
            continue
        parameters: dict = {"weight": weight} | ({"role": role} if ours else {})
        if density is not None:
            parameters["density"] = density if role != "task" else 1.0
        models.append({"model": name, "parameters": parameters})
    shared = {"scope": scope} if scope else {} if ours else {"normalize": False}
    dtype = "bfloat16" if of_decoders else "float32"
    document = {"merge_method": method, "base_model": "theta0", "models": models, "dtype": dtype}
    return document | ({"parameters": shared} if shared else {})


def timed(command: list[str], cwd: Path, **environment: str) -> tuple[float, float]:
    """Seconds and peak private memory in GB of one whole process, started on a disk at rest.

    Private is what the process alone needs: pages of the checkpoints, which the system may drop and read
    again at any time, are not counted.
    """
    os.sync()
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=cwd, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, private_bytes(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        if process.returncode:
            errors.seek(0)
            raise click.ClickException(f"{' '.join(command)}: {errors.read()[-2000:].decode()}")
    return seconds, peak / 1e9


def private_bytes(process: int) -> int:
    """Anonymous memory of a running process; 0 where the system does not tell it (Linux does)."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def read_through(path: Path) -> None:
    """Read a file from end to end, which also brings it into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def floor(folder: Path) -> float:
    """Seconds to read all inputs and write one output by plain copies."""
    os.sync()
    start = time.perf_counter()
    for name in ("theta0", "src", "tgt"):
        for shard in (folder / name).glob("*.safetensors"):
            read_through(shard)
    for shard in (folder / "task").glob("*.safetensors"):
        shutil.copyfile(shard, folder / f"copy-{shard.name}")
    seconds = time.perf_counter() - start
    for copy in folder.glob("copy-*"):
        copy.unlink()
    return seconds


@click.command()
@click.option(
    "--sizes",
    default="278",
    show_default=True,
    help="Millions of parameters (30, 110, 278), or billions of a decoder (0.5b, 2b, 4b, 8b).",
)
@click.option(
    "--rounds", default=3, show_default=True, help="Pairs of ours and stock; ties takes minutes each."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to keep the checkpoints.")
def main(sizes: str, rounds: int, folder: Path | None) -> None:
    """Compare xlt_additive with task_arithmetic (dense) and ties (density 0.2)."""
    program = str(Path(sys.executable).with_name("mergekit-yaml"))
    with tempfile.TemporaryDirectory() as temporary:
        for size in sizes.split(","):
            if size not in {**SHAPES, **DECODERS}:
                raise click.BadParameter(f"{size}: give some of {', '.join({**SHAPES, **DECODERS})}")
            place = (folder or Path(temporary)) / size
            if not any((place / "tgt").glob("*.safetensors")):
                place.mkdir(parents=True, exist_ok=True)
                make_models(place, size)
            floors = [floor(place) for _ in range(3)]
            unit = "" if size in DECODERS else " M"
            click.echo(f"\n{size}{unit} parameters; plain copies: {statistics.median(floors):.1f} s")
            heads = ("ours s", "stock s", "ratio", "ours GB", "stock GB", "ratio")
            click.echo(f"{'merge':<38} " + " ".join(f"{head:>8}" for head in heads))
            for label, method, stock, density, scopes in (
                ("dense", "xlt_additive", "task_arithmetic", None, [None]),
                ("density 0.2", "xlt_additive", "ties", 0.2, ["tensor", "global"]),
            ):
                compare(place, program, rounds, label, method, stock, density, scopes)
            if not folder:
                shutil.rmtree(place)


def compare(place, program, rounds, label, method, stock, density, scopes) -> None:
    """Print a row for each scope, all beside the same stock runs."""
    names = {scope: f"{method}-{scope}-{density}" for scope in scopes}
    for scope, name in names.items():
        (place / f"{name}.yml").write_text(
            yaml.safe_dump(recipe(method, density, scope, place.name in DECODERS))
        )
    (place / f"{stock}.yml").write_text(yaml.safe_dump(recipe(stock, density, None, place.name in DECODERS)))
    runs: dict = {scope: [] for scope in [*scopes, stock]}
    for _ in range(rounds):
        for scope, name in names.items():
            shutil.rmtree(place / "out", ignore_errors=True)
            runs[scope].append(timed([program, f"{name}.yml", "out"], place))
        shutil.rmtree(place / "out", ignore_errors=True)
        command = [program, f"{stock}.yml", "out", *STOCK_FLAGS]
        runs[stock].append(timed(command, place, TAXLT_NO_AUTOLOAD="1"))  # as if we were not installed
    for scope in scopes:
        ratios = [
            [a / b for a, b in zip(x, y, strict=True)] for x, y in zip(runs[scope], runs[stock], strict=True)
        ]
        ours, theirs = (list(map(statistics.median, zip(*runs[key], strict=True))) for key in (scope, stock))
        seconds, memory = (statistics.median(column) for column in zip(*ratios, strict=True))
        name = f"{label}{f', scope {scope}' if scope else ''} / {stock}"
        figures = (ours[0], theirs[0], seconds, ours[1], theirs[1], memory)
        click.echo(f"{name:<38} " + " ".join(f"{figure:8.3f}" for figure in figures))


if __name__ == "__main__":
    main()
