"""`taxlt train language` and `taxlt train task`: flags to settings.

Options listed in the help are ours or the ones that the paper gives a value. Every other field of
`transformers.TrainingArguments` is a flag of the same name (`flags`).
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from taxlt_mergekit.process import imports_stay
from taxlt_mergekit.train.flags import TrainCommand, typed
from taxlt_mergekit.train.settings import SETTINGS, Kind, Settings, make_settings, read_config


def _names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    """A comma-separated list."""
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


_FLAG: dict[str, Any] = {"is_flag": True, "default": None}

_model = click.argument("model", required=False)


# Of both commands too: what of θ₀ is trained, and the Fisher information of what came of it.
_SPARSE = (
    click.option(
        "--sparse",
        type=float,
        metavar="K",
        help="Lottery-ticket sparse fine-tuning: train the K parameters that move most, a share (0.05) "
        "or a number; two phases of --max-steps or epochs each. [all weights]",
    ),
    click.option("--l1", type=float, help="With --sparse: weight λ of the pull towards θ₀. [off]"),
    click.option(
        "--freeze",
        multiple=True,
        type=click.Choice(["layer-norm", "output-embeddings"]),
        help="Do not train these; output-embeddings are untied first. May be repeated. [trained]",
    ),
    click.option(
        "--fisher",
        type=click.IntRange(min=1),
        metavar="N",
        help="Write fisher.safetensors, the diagonal Fisher information over N training rows or blocks "
        "(1000 is usual). [off]",
    ),
)


def _shared_options(batch: str, rate: str, evaluation: str) -> Callable:
    """Options of both commands; the arguments say what the default is and where it comes from."""
    options = (
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            help=f"Total batch: per device × accumulation × devices. {batch}",
        ),
        click.option(
            "--per-device-train-batch-size",
            type=click.IntRange(min=1),
            help="Batch of one device. [--batch-size / (devices × accumulation). Given without "
            "--batch-size it sets the total, as in transformers]",
        ),
        click.option(
            "--gradient-accumulation-steps",
            type=click.IntRange(min=1),
            help="Batches added up a step. [1]",
        ),
        click.option("--learning-rate", type=float, help=f"Peak learning rate. {rate}"),
        click.option("--eval-steps", type=float, help=f"Steps between evaluations. {evaluation}"),
        click.option(
            "--seed", type=int, help="Seeds order, masks, dropout and new heads. [42: TrainingArguments]"
        ),
        click.option(
            "--bf16/--no-bf16",
            default=None,
            help="bfloat16 autocast. [where the GPU has it; never on a CPU]",
        ),
        click.option("--gradient-checkpointing", **_FLAG, help="Less memory for more time. [off]"),
        click.option(
            "--cut-vocabulary",
            **_FLAG,
            help="Train over the pieces of the data alone; the rows of others stay θ₀'s. Changes a language "
            "run's loss, and no task's. [the whole vocabulary]",
        ),
        click.option("--freeze-embeddings", **_FLAG, help="Do not train the input embeddings. [trained]"),
        click.option(
            "--tie-embeddings/--untie-embeddings",
            default=None,
            help="Share input and output embeddings, or not. [as the model's config says]",
        ),
        click.option(
            "--lora-rank",
            type=click.IntRange(min=1),
            help="Train a peft adapter of this rank in place of all weights. [all weights: section 3]",
        ),
        click.option("--lora-alpha", type=float, help="Scale of the adapter. [2 × rank]"),
        click.option(
            "--lora-target-modules",
            multiple=True,
            help="Linear layers to adapt. [all of the model's body]",
        ),
        click.option("--merge-lora", **_FLAG, help="Save the adapter folded into a whole checkpoint. [off]"),
        *_SPARSE,
        click.option(
            "--size",
            type=click.Choice(["base", "large"]),
            help="Whose settings of the paper to take. [large if the model is the catalog's "
            "xlm-roberta-large or its hidden size is 1024 or more]",
        ),
        click.option(
            "--config", type=click.Path(path_type=Path), help="YAML file of settings; flags go before it."
        ),
        click.option(
            "--resume",
            is_flag=True,
            help="Go on with a stopped run of the same settings, if there is one.",
        ),
        click.option("--push-to-hub", **_FLAG, help="Upload the finished folder (--hub-model-id names it)."),
    )

    def apply(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def train() -> None:
    """Train a language vector or a task vector with the paper's settings.

    What is written is an ordinary checkpoint θ; mergekit subtracts θ₀ to get the vector τ = θ − θ₀.
    """


_EPILOG = (
    "In [brackets]: the default and where it comes from. Section, table and appendix are those of Parović et "
    "al. 2024. Every other field of transformers.TrainingArguments is a flag of the same name too "
    "(--weight-decay, --warmup-steps, --lr-scheduler-type, --report-to tensorboard, …) and a key of --config."
)


@train.command(
    cls=TrainCommand, epilog=_EPILOG, options_metavar="MODEL --corpus FILE... --lang CODE [OPTIONS]"
)
@_model
@click.option(
    "--corpus",
    multiple=True,
    help="Raw text: files (UTF-8, plain or packed; a document is a line, or a row of .csv, .jsonl or "
    ".parquet), folders of such files, or data set ids ID[:CONFIGURATION]. Several may follow, after MODEL.",
)
@click.option("--lang", help="The language's code, as in table 5: names the output folder.")
@click.option(
    "--validation", multiple=True, help="Other text to validate on, in place of a share of the corpus."
)
@click.option(
    "--validation-share",
    type=float,
    help="Share of the documents (lines) held out by --seed. [0.05: not in the paper]",
)
@click.option("--text-column", help="Column that holds the text, where there are columns. [text]")
@click.option("--max-steps", type=int, help="Training steps. [50,000; large: 20,000: section 3]")
@click.option("--block-size", type=int, help="Tokens a sequence. [256: section 3]")
@click.option(
    "--mlm-probability",
    type=float,
    help="Share of tokens to predict (encoders). [0.15: XLM-R's own pre-training]",
)
@click.option(
    "--new-head", **_FLAG, help="Give a model without a language-modelling head a fresh one. [refused]"
)
@click.option("--early-stopping-patience", type=int, help="Evaluations without gain before stopping. [off]")
@_shared_options("[64: section 3]", "[5e-5: section 3]", "[a 20th of the steps: not in the paper]")
@click.option("--output", help="Where the checkpoint goes. [vectors/MODEL/lang/LANG, as recipes name it]")
@click.pass_context
def language(ctx: click.Context, config: Path | None, resume: bool, **given: Any) -> None:
    """Train a language vector: go on with MODEL's own pre-training on raw text.

    Masked LM for encoders, next-token prediction for decoders. The checkpoint with the lowest validation
    perplexity is kept (section 3).
    """
    _carry_out(collect("language", ctx, given, config), resume)


@train.command(cls=TrainCommand, epilog=_EPILOG, options_metavar="MODEL --task TASK [OPTIONS]")
@_model
@click.option(
    "--task",
    help="multinli, marc or smsa: the corpora of table 6, from the hub or TAXLT_DATA. With --train and "
    "--validation: the task's settings and label names, your rows.",
)
@click.option("--train", type=str, help="Your training rows: .csv, .tsv (both with a header) or .jsonl.")
@click.option("--validation", type=str, help="Your validation rows.")
@click.option("--columns", callback=_names, help="Column of the text, or of a pair: premise,hypothesis.")
@click.option("--label", help="Column of the label. [label]")
@click.option(
    "--labels", callback=_names, help="Label names in the order of their numbers. [the task's, or sorted]"
)
@click.option("--name", help="Names the output folder for your own rows.")
@click.option(
    "--num-train-epochs",
    type=float,
    help="Passes over the rows. [multinli 5, marc 5, smsa 10: table 1, appendix G]",
)
@click.option("--max-steps", type=int, help="Training steps, in place of epochs. [epochs decide]")
@click.option(
    "--max-length", type=int, help="Tokens a row is cut at. [256: section 3, there of language vectors]"
)
@click.option(
    "--metric-for-best-model",
    help="Which checkpoint is kept: accuracy, f1 (macro) or loss. [accuracy; smsa f1: table 1]",
)
@click.option(
    "--warmup-steps", type=float, help="Linear warm-up. [0; large: multinli 6,000, smsa 300: appendix G]"
)
@click.option(
    "--early-stopping-patience",
    type=int,
    help="Evaluations without gain before stopping. [off; large: smsa 3: appendix G]",
)
@_shared_options(
    "[multinli 32, marc 32, smsa 16: table 1; large: smsa 32: appendix G]",
    "[2e-5: table 1; large: smsa 1e-5: appendix G]",
    "[multinli 625, marc 625, smsa 250: table 1, appendix G]",
)
@click.option("--output", help="Where the checkpoint goes. [vectors/MODEL/task/TASK, as recipes name it]")
@click.pass_context
def task(ctx: click.Context, config: Path | None, resume: bool, **given: Any) -> None:
    """Train a task vector: fine-tune MODEL as a classifier on labelled rows of the source language.

    Your own rows (--train, --validation, --columns) take MultiNLI's column of table 1 unless --task names
    another.
    """
    _carry_out(collect("task", ctx, given, config), resume)


def collect(kind: Kind, ctx: click.Context, given: dict[str, Any], config: Path | None) -> Settings:
    """Settings from flags, then `--config`, then nothing: what is still unset is resolved from the paper."""
    values: dict[str, Any] = {}
    if config is not None:
        values = typed(read_config(config, kind), SETTINGS[kind].model_fields)
    values |= ctx.meta["taxlt.arguments"]
    for name, value in given.items():
        if value is not None and value != ():
            values[name] = list(value) if isinstance(value, tuple) else value
    return make_settings(kind, {name: value for name, value in values.items() if value is not None})


def _carry_out(settings: Settings, resume: bool) -> None:
    _quiet()
    with imports_stay():
        from taxlt_mergekit.train import prepare, run
    with run.closing_processes():
        run.carry_out(prepare.make_plan(settings, resume), resume)


def _quiet() -> None:
    """Keep the libraries' notes for developers out of the terminal, before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore", category=FutureWarning)
    from datasets.utils import logging as datasets_logging
    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets_logging.set_verbosity_error()
    disable_progress_bar()
