"""One merge from recipe to folder: mergekit's own run, given a task model's head and checked on both ends."""

import logging
import os
from collections.abc import Callable

import click
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.options import MergeOptions

from taxlt_mergekit.errors import UserError, first_line
from taxlt_mergekit.merge.card import summary
from taxlt_mergekit.merge.checkpoint import open_checkpoint
from taxlt_mergekit.merge.layout import check_shapes, output_layout
from taxlt_mergekit.merge.output import copy_tokenizer_files, has_tokenizer, staging
from taxlt_mergekit.merge.plan import Merge, OutputConfiguration, planned_recipe
from taxlt_mergekit.merge.recipe import check_recipe

LOG = logging.getLogger(__name__)

# Unrelated weights are about orthogonal, and then ‖θ − θ₀‖ ≥ ‖θ₀‖ whatever the size of θ.
UNRELATED = 1.0


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
    LoaderCache().setup(options)
    checkpoints = {model: open_checkpoint(model, options) for model in cast.models}
    layout = output_layout(cast, checkpoints, options)
    aligns = bool(config.tokenizer or config.tokenizer_source or options.unsafe_truncate_embeddings)
    check_shapes(layout, cast, checkpoints, except_vocabulary=aligns)
    for name, models in layout.zero.items():
        LOG.warning("%s has no tensor %s; its vector counts as zero there", ", ".join(map(str, models)), name)
    name = os.path.basename(os.path.normpath(out_path))
    return Merge(name, planned_recipe(config, cast.base), cast, layout)


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
    merge = prepare(config, out_path, options, source)
    task = merge.cast.task
    if options.copy_tokenizer and not has_tokenizer(task, options):
        LOG.warning("%s has no tokenizer, so the output has none", task)
        options = options.model_copy(update={"copy_tokenizer": False})
    output = OutputConfiguration.model_validate(
        config.model_dump() | {"base_model": task, "out_dtype": merge.recipe.out_dtype, "merge": merge}
    )
    with staging(out_path) as folder:
        try:
            stock(output, folder, options, source or config.to_yaml())
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            if isinstance(error, UserError) or options.verbosity:
                raise
            raise UserError(f"{config.merge_method}: {first_line(error)} (-v shows where)") from error
        if options.copy_tokenizer and not (config.tokenizer or config.tokenizer_source):
            copy_tokenizer_files(task, folder, options)
    _warn_of_strangers(merge)
    if not options.quiet:
        click.echo(summary(merge, out_path), err=True)


def _warn_of_strangers(merge: Merge) -> None:
    for model in merge.record.vector:
        ratio = merge.record.ratio(model)
        if ratio >= UNRELATED:
            LOG.warning(
                "%s does not seem to come from base_model %s: its vector is %.2f times as large as the base "
                "itself (‖θ − θ₀‖ / ‖θ₀‖; further training gives well below 1)",
                model,
                merge.cast.base,
                ratio,
            )
