"""From settings to a frozen plan: inputs are read and checked, and all that is open is resolved, once."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import torch
from transformers import DataCollatorWithPadding, TrainingArguments, set_seed

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.paper.catalog import Size, vector_folder
from taxlt_mergekit.paper.training import (
    LANGUAGE_BATCH_SIZE,
    LANGUAGE_LEARNING_RATE,
    LANGUAGE_STEPS,
    TASK_DEFAULTS,
)
from taxlt_mergekit.train import models
from taxlt_mergekit.train.blocks import (
    BlockStream,
    LanguageCollator,
    check_tokens,
    check_unknown,
    read_corpora,
)
from taxlt_mergekit.train.folder import check_room, check_writable, look_at_output
from taxlt_mergekit.train.rows import load_corpus, rows_sha256, tokenise
from taxlt_mergekit.train.settings import (
    Batch,
    Kind,
    LanguageSettings,
    Settings,
    TaskSettings,
    count_devices,
    model_size,
    split_batch,
)
from taxlt_mergekit.train.sparse.counted import Sparse, check_sparse, count
from taxlt_mergekit.train.text import corpus_notes
from taxlt_mergekit.train.vocabulary.cut import Cut, check_cut, cut_if_asked

SEED = 42  # TrainingArguments' default
EVALUATIONS = 20  # not in the paper: how often a language run is evaluated, over its whole length

Predicted = Literal["mlm", "clm", "labels"]


@dataclass(frozen=True)
class Plan:
    """What a run does, once its inputs were read and checked.

    Attributes:
        kind: which command.
        objective: what is predicted: masked tokens, next tokens, or labels of rows.
        settings: resolved: nothing that the paper or the user decided is unset.
        arguments: Trainer's.
        model, tokenizer: loaded.
        train, validation: data sets for Trainer.
        collator: Trainer's data collator.
        inputs: what identifies base model and data; a resumed run must have the same.
        facts: lines for the start and for the model card, as (what, value).
        sparse: what is to be found in phase 1; None where all is trained, in one phase.
        cut: what the model's vocabulary is cut to while it is trained; None where it is whole.
    """

    kind: Kind
    objective: Predicted
    settings: Settings
    arguments: TrainingArguments
    model: Any
    tokenizer: Any
    train: Any
    validation: Any
    collator: Any
    inputs: dict[str, Any]
    facts: tuple[tuple[str, str], ...]
    sparse: Sparse | None = None
    cut: Cut | None = None

    @property
    def output(self) -> Path:
        return Path(self.arguments.output_dir)


def make_plan(settings: Settings, resume: bool) -> Plan:
    """Read what the settings name, and resolve what they leave open.

    Args:
        settings: as the user gave them.
        resume: whether the output folder may hold a run.

    Raises:
        UserError: a mistake in the settings, the model, the corpora or the rows.
    """
    check_sparse(settings)
    check_cut(settings)
    if isinstance(settings, LanguageSettings):
        return _language_plan(settings, resume)
    assert isinstance(settings, TaskSettings)
    return _task_plan(settings, resume)


def _language_plan(settings: LanguageSettings, resume: bool) -> Plan:
    """A language vector: continued pre-training on raw text."""
    output = _output(settings, "lang", settings.lang, "--lang is missing: the language's code")
    _look_at_folders(output, resume, _corpora(settings))
    config = models.load_config(settings.model)
    objective = models.choose_objective(config, settings.model)
    tokenizer = models.load_tokenizer(settings.model)
    seed = _begin(settings)
    model, fresh = models.load_language_model(settings, config, tokenizer, objective)
    sparse = count(model, settings, fresh)
    size, why = _size(settings, config)
    batch = _batch(settings, LANGUAGE_BATCH_SIZE)
    values = _language_values(settings.arguments, size)
    # The arguments are made before the steps are known, because that starts the processes' group, which the
    # cache needs, and once more with them.
    arguments = training_arguments(values, output, batch, language=True)
    separator = tokenizer.eos_token_id if objective.kind == "clm" else None
    facts, train, validation = read_corpora(settings, tokenizer, separator, seed, arguments)
    values |= _language_steps(settings.arguments, arguments, len(train), batch)
    arguments = training_arguments(values, output, batch, language=True)
    steps = arguments.max_steps
    cut = cut_if_asked(settings, model, tokenizer, (train, validation))
    _check_room(model, arguments, steps)
    tokens = steps * batch.total * settings.block_size
    passes = steps * batch.total / len(train)
    masked = objective.kind == "mlm"
    share = settings.mlm_probability if masked else None
    collator = LanguageCollator(tokenizer, share, cut.kept if cut else None)
    streams = {
        "training": BlockStream(train, steps * batch.total, seed, shuffle=True),
        "validation": BlockStream(validation, len(validation), seed, shuffle=False),
    }
    warnings = check_tokens(settings, tokenizer, train, streams, collator)
    hidden = f", {settings.mlm_probability:.0%} of the tokens" if masked else ""
    return Plan(
        kind="language",
        objective=objective.kind,
        settings=_resolved(settings, arguments, batch, seed, output=output, size=size),
        arguments=arguments,
        model=model,
        tokenizer=tokenizer,
        train=streams["training"],
        validation=streams["validation"],
        sparse=sparse,
        cut=cut,
        collator=collator,
        inputs={
            "base_model": models.model_identity(settings.model, config),
            "data": [asdict(entry) for entry in facts],
        },
        facts=(
            ("objective", f"{objective.name}{hidden}: {objective.reason}"),
            *([("new head", f"started at random: {', '.join(fresh)}")] if fresh else []),
            ("settings of", f"XLM-R {size} ({why})"),
            *([("language", settings.lang)] if settings.lang else []),
            ("corpus", ", ".join(settings.corpus)),
            *(("corpus", note) for name in _corpora(settings) for note in corpus_notes(name)),
            *(("warning", text) for text in warnings),
            ("training text", f"{len(train):,} blocks of {settings.block_size} tokens"),
            ("validation text", f"{len(validation):,} blocks, {_validation_source(settings)}"),
            *(sparse.facts if sparse else ()),
            *([cut.fact] if cut else ()),
            ("steps", f"{steps:,}, evaluated every {arguments.eval_steps:,}"),
            ("batch", str(batch)),
            ("tokens", f"{tokens:,}, {passes:,.1f} passes over the text"),
            ("learning rate", f"{arguments.learning_rate:g}"),
        ),
    )


def _corpora(settings: LanguageSettings) -> list[str]:
    return settings.corpus + (settings.validation or [])


def _look_at_folders(output: str, resume: bool, corpora: Sequence[str] | None = None) -> None:
    """Refuse, before anything is read, what could not be written after a day.

    Args:
        output: the folder of the checkpoint.
        resume: whether it may hold a run.
        corpora: of a language run, whose tokens go into the cache of data sets.
    """
    look_at_output(Path(output), resume)
    check_writable(Path(output), "--output")
    if corpora is None:
        return
    check_writable(Path(datasets.config.HF_DATASETS_CACHE), "HF_DATASETS_CACHE")
    for corpus in corpora:
        if Path(output).resolve().is_relative_to(Path(corpus).resolve()) and Path(corpus).is_dir():
            raise UserError(f"--output {output} is in the corpus {corpus} and would become a part of it")


def _check_room(model: Any, arguments: TrainingArguments, steps: int) -> None:
    size = models.checkpoint_size(model, str(getattr(arguments.optim, "value", arguments.optim)))
    counted = arguments.save_strategy == "steps" and arguments.save_steps >= 1
    saves = math.ceil(steps / arguments.save_steps) if counted else 1
    check_room(Path(arguments.output_dir), size, saves, arguments.save_total_limit)


def _language_values(given: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """Fields of `TrainingArguments`; `max_steps` is -1 where epochs decide."""
    steps = given.get("max_steps", -1)
    if steps <= 0 and "num_train_epochs" not in given:
        steps = LANGUAGE_STEPS[size]
    return {
        "learning_rate": LANGUAGE_LEARNING_RATE,
        "metric_for_best_model": "eval_loss",  # the lowest loss is the lowest perplexity
        "greater_is_better": False,
        "eval_steps": max(1, steps // EVALUATIONS),
        **given,
        "max_steps": steps,
    }


def _language_steps(
    given: Mapping[str, Any], arguments: TrainingArguments, blocks: int, batch: Batch
) -> dict[str, Any]:
    """How long a run over so many blocks is, and how often it is evaluated and logged."""
    steps, changed = arguments.max_steps, {}
    if steps < 0:
        steps = math.ceil(arguments.num_train_epochs * blocks / batch.total)
        if "eval_steps" not in given:
            changed = _evaluated_every(max(1, steps // EVALUATIONS))
    logging = given.get("logging_steps", max(1, min(100, steps // EVALUATIONS)))
    return {"max_steps": steps, "logging_steps": logging, **changed, **_short_run(arguments, steps)}


def _evaluated_every(steps: int) -> dict[str, int]:
    return {"eval_steps": steps, "save_steps": steps}


def _short_run(arguments: TrainingArguments, steps: int) -> dict[str, int]:
    """A run that is shorter than the steps between evaluations is evaluated once, at its end."""
    return _evaluated_every(steps) if arguments.eval_steps > steps else {}


def _task_plan(settings: TaskSettings, resume: bool) -> Plan:
    """A task vector: fine-tuning on labelled rows of the source language."""
    output = _output(settings, "task", settings.name or settings.task, "--name is missing: it")
    _look_at_folders(output, resume)
    config = models.load_config(settings.model)
    tokenizer = models.load_tokenizer(settings.model)
    size, why = _size(settings, config)
    # Appendix G's warm-up is a tenth of MultiNLI's steps, so it is no default for other rows.
    column = TASK_DEFAULTS[(settings.task, size) if settings.task else ("multinli", "base")]
    patience = settings.early_stopping_patience or column.early_stopping_patience
    batch = _batch(settings, column.batch_size)
    values = {
        "num_train_epochs": column.num_train_epochs,
        "learning_rate": column.learning_rate,
        "eval_steps": column.eval_steps,
        "metric_for_best_model": column.metric_for_best_model,
        "warmup_steps": column.warmup_steps,
        "logging_steps": 50,
        **settings.arguments,
    }
    arguments = training_arguments(values, output, batch, language=False)
    with arguments.main_process_first(local=True, desc="reading rows"):
        corpus = load_corpus(settings)
        segments = getattr(config, "type_vocab_size", None)
        parts, left_out = tokenise(corpus, tokenizer, settings.max_length, segments)
    unknown = check_unknown(parts["train"], tokenizer, corpus.name, settings.model)
    seed = _begin(settings)
    model, fresh = models.load_classifier(settings, config, tokenizer, corpus.labels)
    sparse = count(model, settings, fresh)
    epoch = math.ceil(len(parts["train"]) / batch.total)
    steps = arguments.max_steps if arguments.max_steps > 0 else math.ceil(arguments.num_train_epochs * epoch)
    arguments = training_arguments(values | _short_run(arguments, steps), output, batch, language=False)
    cut = cut_if_asked(settings, model, tokenizer, parts.values())
    _check_room(model, arguments, steps)
    length = float(np.mean([len(ids) for ids in parts["train"][:1000]["input_ids"]]))
    resolved = {"output": output, "size": size, "early_stopping_patience": patience}
    return Plan(
        kind="task",
        objective="labels",
        settings=_resolved(settings, arguments, batch, seed, **resolved),
        arguments=arguments,
        model=model,
        tokenizer=tokenizer,
        train=parts["train"],
        validation=parts["validation"],
        sparse=sparse,
        cut=cut,
        collator=DataCollatorWithPadding(tokenizer),
        inputs={
            "base_model": models.model_identity(settings.model, config),
            "data": [
                {
                    "name": f"{corpus.name}, {part}",
                    "rows": len(rows),
                    "sha256": rows_sha256(rows, corpus.columns),
                }
                for part, rows in (("train", corpus.train), ("validation", corpus.validation))
            ],
        },
        facts=(
            ("task", f"{corpus.name}: {' + '.join(corpus.columns)} → {', '.join(corpus.labels)}"),
            *(("data", note) for note in corpus.notes),
            *(("warning", text) for text in corpus.warnings + left_out + unknown),
            ("settings of", f"{column.source}, XLM-R {size} ({why})"),
            ("rows", f"{len(corpus.train):,} for training, {len(corpus.validation):,} for validation"),
            *(sparse.facts if sparse else ()),
            *([cut.fact] if cut else ()),
            ("steps", f"{steps:,}, {steps / epoch:.3g} epochs, evaluated every {arguments.eval_steps:,}"),
            ("batch", str(batch)),
            ("tokens", f"about {steps * batch.total * length:,.0f}, {length:.0f} a row"),
            ("learning rate", f"{arguments.learning_rate:g}" + _warm_up(arguments)),
            ("kept", f"the checkpoint with the best validation {arguments.metric_for_best_model}"),
            *([("early stopping", f"after {patience} evaluations without gain")] if patience else []),
        ),
    )


def _output(settings: Settings, kind: str, name: str | None, missing: str) -> str:
    if settings.output is not None:
        return settings.output
    if name is None:
        raise UserError(f"{missing} names the output folder (or give --output)")
    return vector_folder(settings.model, kind, name)


def _begin(settings: Settings) -> int:
    """Seed the generators, so that a fresh head is the same each time."""
    seed = settings.arguments.get("seed", SEED)
    set_seed(seed)
    return seed


def _size(settings: Settings, config: Any) -> tuple[Size, str]:
    """Whose settings of the paper are taken, and why."""
    return (settings.size, "--size") if settings.size else model_size(settings.model, config)


def _batch(settings: Settings, default: int) -> Batch:
    arguments = settings.arguments
    return split_batch(
        default,
        settings.batch_size,
        arguments.get("per_device_train_batch_size"),
        arguments.get("gradient_accumulation_steps"),
        count_devices(bool(arguments.get("use_cpu"))),
    )


def training_arguments(
    values: Mapping[str, Any], output: str, batch: Batch, language: bool
) -> TrainingArguments:
    """Trainer's arguments: reporting, saving and the choice of the checkpoint as these commands need them.

    Args:
        values: fields that the user or the paper set.
        output: the folder.
        batch: of one step.
        language: whether the data are blocks, and not rows with columns of other uses.

    Raises:
        UserError: TrainingArguments refuses a value.
    """
    given = {**values, "per_device_train_batch_size": batch.per_device}
    given["gradient_accumulation_steps"] = batch.accumulation
    given.setdefault("per_device_eval_batch_size", batch.per_device)
    given.setdefault("save_steps", given["eval_steps"])
    given.setdefault("report_to", "none")
    given.setdefault("eval_strategy", "steps")
    given.setdefault("save_strategy", given["eval_strategy"])
    given.setdefault("save_total_limit", 2)
    given.setdefault("disable_tqdm", not sys.stderr.isatty())
    given.setdefault("dataloader_pin_memory", torch.cuda.is_available())
    given.setdefault("bf16", models.has_bf16() and not given.get("fp16") and not given.get("use_cpu"))
    if given["bf16"] and not torch.cuda.is_available():
        given.setdefault("use_cpu", True)  # what TrainingArguments asks for before it allows bf16 on a CPU
    for name in [name for name in given if name.startswith("hub_") or name == "push_to_hub"]:
        del given[name]  # the finished folder is uploaded, once and at the end
    for old in ("gradient_checkpointing", "gradient_checkpointing_kwargs"):
        new = old.replace("gradient", "activation")
        if old in given and hasattr(TrainingArguments, new):
            given[new] = given.pop(old)
    with translated("transformers.TrainingArguments"):
        return TrainingArguments(
            output_dir=str(Path(output).absolute()),
            load_best_model_at_end=True,
            restore_callback_states_from_checkpoint=True,
            remove_unused_columns=not language,
            **given,
        )


def _resolved(
    settings: Settings, arguments: TrainingArguments, batch: Batch, seed: int, **others: Any
) -> Settings:
    """The settings with all that was resolved, as they are saved beside the checkpoint."""
    names = ["learning_rate", "eval_steps", "logging_steps", "warmup_steps", "lr_scheduler_type", "bf16"]
    names += ["max_steps"] if arguments.max_steps > 0 else ["num_train_epochs"]
    names += ["metric_for_best_model"] if isinstance(settings, TaskSettings) else []
    values = {name: getattr(arguments, name) for name in names}
    plain = {name: getattr(value, "value", value) for name, value in values.items()}
    everything = {**settings.arguments, **plain, "seed": seed}
    return settings.model_copy(update={"batch_size": batch.total, "arguments": everything, **others})


def _validation_source(settings: LanguageSettings) -> str:
    if settings.validation is not None:
        return f"from {', '.join(settings.validation)}"
    return f"{settings.validation_share:.0%} of the documents (lines), drawn by --seed"


def _warm_up(arguments: TrainingArguments) -> str:
    steps = arguments.warmup_steps
    return f", {steps:g} steps of linear warm-up" if steps else ""
