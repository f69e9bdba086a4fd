"""One merge from recipe to folder: mergekit's own run, given a task model's head and checked on both ends."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator

import click
import torch
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.options import MergeOptions

from taxlt_mergekit.errors import UserError, one_line, translated
from taxlt_mergekit.merge.adapter import merged_checkpoint
from taxlt_mergekit.merge.card import summary
from taxlt_mergekit.merge.checkpoint import open_checkpoint
from taxlt_mergekit.merge.layout import check_shapes, output_layout
from taxlt_mergekit.merge.methods.table import METHODS
from taxlt_mergekit.merge.output import refuse_inputs, staging
from taxlt_mergekit.merge.plan import Merge, OutputConfiguration, planned_recipe
from taxlt_mergekit.merge.recipe import check_recipe
from taxlt_mergekit.model_files import companions_folder, copy_companions, has_tokenizer

LOG = logging.getLogger(__name__)

# Unrelated weights are about orthogonal, and then ‖θ − θ₀‖ ≥ ‖θ₀‖ whatever the size of θ.
UNRELATED = 1.0

# Warnings of mergekit after which the output's config does not fit its tensors.
_LACKING = ("Unable to set", "has no configuration key for number of layers")


def prepare(
    config: MergeConfiguration, out_path: str, options: MergeOptions, source: str | None = None
) -> Merge:
    """Check a recipe and its checkpoints without reading weights.

    Args:
        config: a recipe of one of our methods.
        out_path: the output folder, which gives the merge its name.
        source: the recipe's text where there is one.

    Raises:
        UserError: what is wrong, in one line.
    """
    cast = check_recipe(config, source)
    with translated(f"--device {options.device}: torch {torch.__version__} cannot use it on this machine"):
        torch.empty(1, device=options.device)
    if options.multi_gpu and not torch.cuda.is_available():
        raise UserError("--multi-gpu: this machine has no GPU that torch can use")
    LoaderCache().setup(options)
    start = cast.base.model.path if cast.names_base else None
    checkpoints = {model: open_checkpoint(model, options, start) for model in cast.models}
    method = METHODS[config.merge_method]
    layout = output_layout(cast, checkpoints, method.body_of_all)
    aligns = bool(config.tokenizer or config.tokenizer_source or options.unsafe_truncate_embeddings)
    check_shapes(layout, cast, checkpoints, except_vocabulary=aligns)
    for model, names in layout.zero().items():
        LOG.warning("%s has no tensor %s; its vector counts as zero there", model, ", ".join(names))
    folders = {model: LoaderCache().get(model).index.base_path for model in cast.roles}
    method.check_folders(folders, layout.sources, layout.merged | layout.averaged)
    name = os.path.basename(os.path.normpath(out_path))
    # mergekit's own default is another seed at each run.
    return Merge(name, planned_recipe(config, cast), cast, layout, options.random_seed or 0, folders)


def run(
    stock: Callable[..., None],
    config: MergeConfiguration,
    out_path: str,
    options: MergeOptions,
    source: str | None = None,
) -> None:
    """Merge by one of our methods.

    Args:
        stock: mergekit's `run_merge`, which sees the task model as base and asks `VectorPlanner` for a plan.
        config, out_path, options, source: as for `run_merge`.

    Raises:
        UserError: what is wrong, in one line; `out_path` is then as it was.
    """
    refuse_inputs(out_path, config, options)
    for model in config.referenced_models():  # opened by an earlier merge; the files may be others now
        LoaderCache().loaders.pop(model, None)
    merge = prepare(config, out_path, options, source)
    task = merged_checkpoint(merge.cast.task, options)
    _check_tokenizers(config, options, task, merge.cast.models)
    companions = companions_folder(task.model.path, task.model.revision, options.transformers_cache)
    output = OutputConfiguration.model_validate(
        config.model_dump() | {"base_model": task, "out_dtype": merge.recipe.out_dtype, "merge": merge}
    )
    copies = options.copy_tokenizer and not (config.tokenizer or config.tokenizer_source)
    if copies and not has_tokenizer(companions):
        LOG.warning("%s has no tokenizer, so the output has none", merge.cast.task)
    # mergekit's own copy leaves out files of most tokenizers; a new chat template it alone can put in.
    stock_options = options.model_copy(update={"copy_tokenizer": bool(copies and config.chat_template)})
    shown = f"{config.merge_method} to {out_path}"
    with staging(out_path) as folder:
        with (
            translated(shown, "(-v shows where)", as_it_is=bool(options.verbosity)),
            _nothing_swallowed(shown),
        ):
            stock(output, folder, stock_options, source or config.to_yaml())
        with translated(f"{out_path}: tokenizer and settings of {merge.cast.task} cannot be copied"):
            copy_companions(companions, folder, tokenizer=copies)
    _warn_of_vectors(merge)
    if not options.quiet:
        click.echo(summary(merge, out_path), err=True)


def _check_tokenizers(
    config: MergeConfiguration, options: MergeOptions, task: ModelReference, models: list[ModelReference]
) -> None:
    """Where a recipe works on tokenizers there must be some: transformers makes up empty ones in silence.

    Args:
        task: the whole checkpoint of the task model.
        models: all that are merged.
    """
    source = config.tokenizer.source if config.tokenizer else config.tokenizer_source
    if source:
        models = [*models, source] if isinstance(source, ModelReference) else models
    else:
        models = [task] if config.chat_template and options.copy_tokenizer else []
    key = "chat_template" if not source else "tokenizer" if config.tokenizer else "tokenizer_source"
    for model in models:
        folder = companions_folder(model.model.path, model.model.revision, options.transformers_cache)
        if not has_tokenizer(folder):
            raise UserError(f"{model}: has no tokenizer, which the recipe's {key} needs")


@contextlib.contextmanager
def _nothing_swallowed(shown: str) -> Iterator[None]:
    """Where mergekit logs an error and goes on to an output that lacks something, the merge ends.

    Other errors that it only warns of are one line, not a traceback.
    """

    def look_at(record: logging.LogRecord) -> bool:
        cause = record.exc_info[1] if record.exc_info else None
        text = " ".join(record.getMessage().split())
        if cause is not None:
            text, record.exc_info = f"{text} ({one_line(cause)})", None
        if record.levelno >= logging.ERROR or any(mark in text for mark in _LACKING):
            # Raised here, since mergekit goes on at once where it logs.
            raise UserError(f"{shown}: {text}") from cause
        record.msg, record.args = text, ()
        return True

    loggers = [logging.getLogger(name) for name in ("mergekit.merge", "mergekit.tokenizer.build")]
    for logger in loggers:
        logger.addFilter(look_at)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(look_at)


def _warn_of_vectors(merge: Merge) -> None:
    for model in merge.record.vector:
        ratio = merge.record.ratio(model) or 0.0
        if ratio == 0 and model != merge.cast.task:
            LOG.warning(
                "%s equals base_model %s: its vector is zero and changes nothing", model, merge.cast.base
            )
        if ratio >= UNRELATED:
            LOG.warning(
                "%s does not seem to come from base_model %s: its vector is %.2f times as large as the base "
                "itself (‖θ − θ₀‖ / ‖θ₀‖; further training gives well below 1)",
                model,
                merge.cast.base,
                ratio,
            )
