"""From settings to a `Run`: read and check the inputs, resolve what is open, count what is to come."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from transformers import DataCollatorWithPadding, TrainingArguments, set_seed

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.catalog import vector_folder
from taxlt_mergekit.train import models
from taxlt_mergekit.train import rows as task_data
from taxlt_mergekit.train import settings as ts
from taxlt_mergekit.train import text as raw_text
from taxlt_mergekit.train.blocks import BlockStream, LanguageCollator, cached_blocks
from taxlt_mergekit.train.console import is_main
from taxlt_mergekit.train.folder import clear_errors, look_at_output
from taxlt_mergekit.train.trainer import Run, loss_of_whole_batch, training_arguments

SEED = 42  # TrainingArguments' default


def language_run(settings: ts.LanguageSettings, resume: bool) -> Run:
    """A language vector: continued pre-training on raw text.

    Raises:
        UserError: a mistake in the settings, the model or the corpora.
    """
    if settings.output is None:
        if settings.lang is None:
            raise UserError(
                "--lang is missing: the language's code names the output folder (or give --output)"
            )
        settings.output = vector_folder(settings.model, "lang", settings.lang)
    look_at_output(Path(settings.output), resume)
    config = models.load_config(settings.model)
    objective = models.choose_objective(config, settings.model)
    tokenizer = models.load_tokenizer(settings.model)
    seed = _begin(settings)
    model = models.load_language_model(settings, config, tokenizer, objective)
    settings.size, why = _size(settings, config)
    steps, evaluate_every = _language_steps(settings)
    batch = _batch(settings, ts.LANGUAGE_BATCH_SIZE)
    defaults = {
        "learning_rate": ts.LANGUAGE_LEARNING_RATE,
        "metric_for_best_model": "eval_loss",  # the lowest loss is the lowest perplexity
        "greater_is_better": False,
    }
    # The arguments are made now, because they start the processes' group, which the cache needs.
    arguments = training_arguments(
        settings, {**defaults, "max_steps": steps, "eval_steps": evaluate_every}, batch, language=True
    )
    separator = tokenizer.eos_token_id if objective.kind == "clm" else None
    facts, train, validation = _read_corpora(settings, tokenizer, separator, seed, arguments)
    if steps < 0:
        steps = math.ceil(arguments.num_train_epochs * len(train) / batch.total)
        arguments.max_steps = steps
        if "eval_steps" not in settings.arguments:
            arguments.eval_steps = arguments.save_steps = max(1, steps // ts.EVALUATIONS)
    if arguments.eval_steps > steps:  # a short run is evaluated once, at its end
        arguments.eval_steps = arguments.save_steps = steps
    if "logging_steps" not in settings.arguments:
        arguments.logging_steps = max(1, min(100, steps // ts.EVALUATIONS))
    _keep(settings, arguments, batch, seed)
    tokens = steps * batch.total * settings.block_size
    passes = steps * batch.total / len(train)
    masked = objective.kind == "mlm"
    share = f", {settings.mlm_probability:.0%} of the tokens" if masked else ""
    return Run(
        kind="language",
        settings=settings,
        arguments=arguments,
        model=model,
        tokenizer=tokenizer,
        train=BlockStream(train, steps * batch.total, seed, shuffle=True),
        validation=BlockStream(validation, len(validation), seed, shuffle=False),
        collator=LanguageCollator(tokenizer, settings.mlm_probability if masked else None),
        loss=partial(loss_of_whole_batch, smoothing=arguments.label_smoothing_factor) if masked else None,
        inputs={
            "base_model": models.model_identity(settings.model, config),
            "data": [asdict(entry) for entry in facts],
        },
        facts=[
            ("objective", f"{objective.name}{share}: {objective.reason}"),
            ("settings of", f"XLM-R {settings.size} ({why})"),
            *_source_facts(settings, [entry.name for entry in facts]),
            ("training text", f"{len(train):,} blocks of {settings.block_size} tokens"),
            ("validation text", f"{len(validation):,} blocks, {_validation_source(settings)}"),
            ("steps", f"{steps:,}, evaluated every {arguments.eval_steps:,}"),
            ("batch", str(batch)),
            ("tokens", f"{tokens:,}, {passes:,.1f} passes over the text"),
            ("learning rate", f"{arguments.learning_rate:g}"),
        ],
    )


def task_run(settings: ts.TaskSettings, resume: bool) -> Run:
    """A task vector: fine-tuning on labelled rows of the source language.

    Raises:
        UserError: a mistake in the settings, the model or the rows.
    """
    name = settings.name or settings.task
    if settings.output is None:
        if name is None:
            raise UserError("--name is missing: it names the output folder (or give --output)")
        settings.output = vector_folder(settings.model, "task", name)
    look_at_output(Path(settings.output), resume)
    config = models.load_config(settings.model)
    tokenizer = models.load_tokenizer(settings.model)
    settings.size, why = _size(settings, config)
    # Appendix G's warm-up is a tenth of MultiNLI's steps, so it is no default for other rows.
    column = ts.TASK_DEFAULTS[(settings.task, settings.size) if settings.task else ("multinli", "base")]
    if settings.early_stopping_patience is None:
        settings.early_stopping_patience = column.early_stopping_patience
    batch = _batch(settings, column.batch_size)
    defaults = {
        name: getattr(column, name)
        for name in (
            "num_train_epochs",
            "learning_rate",
            "eval_steps",
            "metric_for_best_model",
            "warmup_steps",
        )
    }
    arguments = training_arguments(settings, {**defaults, "logging_steps": 50}, batch, language=False)
    with arguments.main_process_first(local=True, desc="reading rows"):
        corpus = task_data.load_corpus(settings)
        parts = task_data.tokenise(corpus, tokenizer, settings.max_length)
    seed = _begin(settings)
    model = models.load_classifier(settings, config, tokenizer, corpus.labels)
    epoch = math.ceil(len(parts["train"]) / batch.total)
    steps = arguments.max_steps if arguments.max_steps > 0 else math.ceil(arguments.num_train_epochs * epoch)
    if arguments.eval_steps > steps:  # a short run is evaluated once, at its end
        arguments.eval_steps = arguments.save_steps = steps
    _keep(settings, arguments, batch, seed)
    length = float(np.mean([len(ids) for ids in parts["train"][:1000]["input_ids"]]))
    patience = settings.early_stopping_patience
    return Run(
        kind="task",
        settings=settings,
        arguments=arguments,
        model=model,
        tokenizer=tokenizer,
        train=parts["train"],
        validation=parts["validation"],
        collator=DataCollatorWithPadding(tokenizer),
        metrics=scores,
        loss=partial(loss_of_whole_batch, smoothing=arguments.label_smoothing_factor),
        inputs={
            "base_model": models.model_identity(settings.model, config),
            "data": [
                {
                    "name": f"{corpus.name}, {part}",
                    "rows": len(rows),
                    "sha256": task_data.rows_sha256(rows, corpus.columns),
                }
                for part, rows in (("train", corpus.train), ("validation", corpus.validation))
            ],
        },
        facts=[
            ("task", f"{corpus.name}: {' + '.join(corpus.columns)} → {', '.join(corpus.labels)}"),
            *(("data", note) for note in corpus.notes),
            ("settings of", f"{column.source}, XLM-R {settings.size} ({why})"),
            ("rows", f"{len(corpus.train):,} for training, {len(corpus.validation):,} for validation"),
            ("steps", f"{steps:,}, {steps / epoch:.3g} epochs, evaluated every {arguments.eval_steps:,}"),
            ("batch", str(batch)),
            ("tokens", f"about {steps * batch.total * length:,.0f}, {length:.0f} a row"),
            ("learning rate", f"{arguments.learning_rate:g}" + _warm_up(arguments)),
            ("kept", f"the checkpoint with the best validation {arguments.metric_for_best_model}"),
            *([("early stopping", f"after {patience} evaluations without gain")] if patience else []),
        ],
    )


def scores(prediction: Any) -> dict[str, float]:
    """Accuracy and macro-F1 of logits against labels, as Trainer's `compute_metrics`."""
    from sklearn.metrics import accuracy_score, f1_score

    logits = (
        prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    )
    guesses = logits.argmax(axis=-1)
    return {
        "accuracy": float(accuracy_score(prediction.label_ids, guesses)),
        "f1": float(f1_score(prediction.label_ids, guesses, average="macro", zero_division=0)),
    }


def _begin(settings: ts.Settings) -> int:
    """Seed the generators, so that a fresh head is the same each time."""
    seed = settings.arguments.get("seed", SEED)
    set_seed(seed)
    return seed


def _size(settings: ts.Settings, config: Any) -> tuple[Any, str]:
    if settings.size is not None:
        return settings.size, "--size"
    return ts.model_size(settings.model, config)


def _batch(settings: ts.Settings, default: int) -> ts.Batch:
    arguments = settings.arguments
    return ts.split_batch(
        default,
        settings.batch_size,
        arguments.get("per_device_train_batch_size"),
        arguments.get("gradient_accumulation_steps"),
        ts.count_devices(bool(arguments.get("use_cpu"))),
    )


def _language_steps(settings: ts.LanguageSettings) -> tuple[int, int]:
    """Steps, -1 where epochs decide, and how often to evaluate."""
    assert settings.size is not None
    given = settings.arguments
    steps = given.get("max_steps", -1)
    if steps <= 0 and "num_train_epochs" not in given:
        steps = ts.LANGUAGE_STEPS[settings.size]
    return steps, given.get("eval_steps", max(1, steps // ts.EVALUATIONS))


def _keep(settings: ts.Settings, arguments: TrainingArguments, batch: ts.Batch, seed: int) -> None:
    """Write what was resolved back into the settings, which are saved beside the checkpoint."""
    settings.batch_size = batch.total
    resolved = ["learning_rate", "eval_steps", "logging_steps", "warmup_steps", "lr_scheduler_type", "bf16"]
    resolved += ["max_steps"] if arguments.max_steps > 0 else ["num_train_epochs"]
    resolved += ["metric_for_best_model"] if isinstance(settings, ts.TaskSettings) else []
    values = {name: getattr(arguments, name) for name in resolved}
    plain = {name: getattr(value, "value", value) for name, value in values.items()}
    settings.arguments = {**settings.arguments, **plain, "seed": seed}


def _read_corpora(
    settings: ts.LanguageSettings,
    tokenizer: Any,
    separator: int | None,
    seed: int,
    arguments: TrainingArguments,
) -> tuple[list[raw_text.CorpusFacts], Any, Any]:
    """The facts of all corpora, and the blocks for training and for validation.

    Raises:
        UserError: a corpus cannot be read, or is too small for one block.
    """
    quiet = not is_main() or arguments.disable_tqdm
    column = settings.text_column

    def bar(what: str, total: int | None) -> Any:
        return tqdm.tqdm(desc=what, total=total, unit="B", unit_scale=True, disable=quiet, leave=False)

    with bar("reading", _size_on_disk(settings.corpus)) as progress:
        facts, smallest = raw_text.survey(settings.corpus, column, seed, progress)

    def blocks(of: Sequence[raw_text.CorpusFacts], part: str, held: raw_text.HeldOut) -> Any:
        with bar(f"tokenising, {part}", sum(entry.bytes + entry.documents for entry in of)) as progress:
            return cached_blocks(of, part, held, column, tokenizer, settings.block_size, separator, progress)

    if settings.validation is not None:
        others, _ = raw_text.survey(settings.validation, column, seed)
        held = raw_text.HeldOut(seed, -1)
    else:
        others = []
        held = raw_text.held_out(settings.validation_share, seed, smallest)
    with clear_errors(_cache_folder()), arguments.main_process_first(local=True, desc="tokenising"):
        train = blocks(facts, "train", held)
        validation = blocks(others, "all", held) if others else blocks(facts, "validation", held)
    facts += others
    for part, rows in (("training", train), ("validation", validation)):
        if not len(rows):
            raise UserError(
                f"corpus {', '.join(settings.corpus)}: the {part} part is too small for one block of "
                f"{settings.block_size} tokens; a smaller --block-size may help"
            )
    return facts, train, validation


def _cache_folder() -> Path:
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE)


def _size_on_disk(names: Sequence[str]) -> int | None:
    """Bytes of plain files; None where a file is packed or a data set, and the text's size is not known."""
    plain = all(Path(name).is_file() and Path(name).suffix not in (".gz", ".zst") for name in names)
    return sum(Path(name).stat().st_size for name in names) if plain else None


def _source_facts(settings: ts.LanguageSettings, names: Sequence[str]) -> list[tuple[str, str]]:
    language = [("language", settings.lang)] if settings.lang else []
    return [*language, ("corpus", ", ".join(names[: len(settings.corpus)]))]


def _validation_source(settings: ts.LanguageSettings) -> str:
    if settings.validation is not None:
        return f"from {', '.join(settings.validation)}"
    return f"{settings.validation_share:.0%} of the documents (lines), drawn by --seed"


def _warm_up(arguments: TrainingArguments) -> str:
    steps = arguments.warmup_steps
    return f", {steps:g} steps of linear warm-up" if steps else ""
