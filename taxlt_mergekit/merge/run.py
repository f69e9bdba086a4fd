"""One merge from recipe to folder: mergekit's own run, given a task model's head and checked on both ends."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

import click
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.options import MergeOptions

from taxlt_mergekit.errors import UserError, first_line
from taxlt_mergekit.merge.card import model_card
from taxlt_mergekit.merge.checkpoint import open_checkpoint
from taxlt_mergekit.merge.layout import check_shapes, output_layout
from taxlt_mergekit.merge.method import (
    METHODS,
)
from taxlt_mergekit.merge.plan import OutputConfiguration, _add_base_to_slices
from taxlt_mergekit.merge.recipe import check_recipe

LOG = logging.getLogger(__name__)

# Unrelated weights are about orthogonal, and then ‖θ − θ₀‖ ≥ ‖θ₀‖ whatever the size of θ.
UNRELATED = 1.0


TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def prepare(
    config: MergeConfiguration, out_path: str, options: MergeOptions, source: str | None
) -> OutputConfiguration:
    """Check a recipe and its checkpoints without reading weights.

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

    out_dtype = config.out_dtype or config.dtype
    output = OutputConfiguration.model_validate(
        config.model_dump() | {"base_model": cast.task, "out_dtype": out_dtype}
    )
    output._cast, output._layout = cast, layout
    # Inputs keep their type until they are added up, whatever `dtype` says: one rounding, at the end.
    output._recipe = config.model_copy(update={"dtype": None, "out_dtype": out_dtype}, deep=True)
    _add_base_to_slices(output._recipe, cast.base)
    output._name = os.path.basename(os.path.normpath(out_path))
    return output


def run(
    stock: Callable[..., None],
    config: MergeConfiguration,
    out_path: str,
    options: MergeOptions,
    source: str | None = None,
) -> None:
    """Merge by one of our methods; `stock` is mergekit's `run_merge`.

    Raises:
        UserError: what is wrong, in one line; `out_path` is then as it was.
    """
    output = prepare(config, out_path, options, source)
    has_tokenizer = _has_tokenizer(output._cast.task, options)
    if options.copy_tokenizer and not has_tokenizer:
        LOG.warning("%s has no tokenizer, so the output has none", output._cast.task)
        options = options.model_copy(update={"copy_tokenizer": False})
    with _staging(out_path) as folder:
        try:
            stock(output, folder, options, source or config.to_yaml())
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            if isinstance(error, UserError) or options.verbosity:
                raise
            raise UserError(f"{config.merge_method}: {first_line(error)} (-v shows where)") from error
        if options.copy_tokenizer and not (config.tokenizer or config.tokenizer_source):
            _copy_missing(output._cast.task, folder, options)
    _warn_of_strangers(output)
    if not options.quiet:
        click.echo(_summary(output, out_path), err=True)


def card(output: OutputConfiguration, source: str) -> str:
    """The model card of a merge (mergekit's own asks the hub about folder names)."""
    return model_card(
        output._name, METHODS[output.merge_method].spec, output._cast, output._terms, output._record, source
    )


def _warn_of_strangers(output: OutputConfiguration) -> None:
    for model in output._record.vector:
        ratio = output._record.ratio(model)
        if ratio >= UNRELATED:
            LOG.warning(
                "%s does not seem to come from base_model %s: its vector is %.2f times as large as the base "
                "itself (‖θ − θ₀‖ / ‖θ₀‖; further training gives well below 1)",
                model,
                output._cast.base,
                ratio,
            )


def _summary(output: OutputConfiguration, out_path: str) -> str:
    layout = output._layout
    lines = [f"{output.merge_method}: {len(layout.merged)} tensors merged with base {output._cast.base}"]
    for model, terms in output._terms.items():
        lines.append(
            f"  {terms['role']:<6}  {model}  λ {_range(terms['weight'])}  density {_range(terms['density'])}"
            f"  ‖τ‖/‖θ₀‖ {output._record.ratio(model):.4f}"
        )
    if layout.head:
        shown = ", ".join(layout.head[:4]) + (", …" if len(layout.head) > 4 else "")
        lines.append(f"  head    {len(layout.head)} tensors copied from the task model: {shown}")
    lines.append(f"  written to {out_path}")
    return "\n".join(lines)


def _range(values: set[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}…{high:g}"


def _has_tokenizer(model: ModelReference, options: MergeOptions) -> bool:
    folder = model.local_path(cache_dir=options.transformers_cache, ignore_lora=True)
    return any(os.path.exists(os.path.join(folder, name)) for name in TOKENIZER_FILES)


def _copy_missing(model: ModelReference, folder: str, options: MergeOptions) -> None:
    """Copy the tokenizer files that mergekit's own list leaves out, such as vocab.txt."""
    donor = model.local_path(cache_dir=options.transformers_cache, ignore_lora=True)
    for name in TOKENIZER_FILES:
        source, target = os.path.join(donor, name), os.path.join(folder, name)
        if os.path.exists(source) and not os.path.exists(target):
            shutil.copy(source, target)


@contextlib.contextmanager
def _staging(out_path: str) -> Iterator[str]:
    """A folder beside `out_path` whose files move there when all went well, and vanish otherwise."""
    if os.path.exists(out_path) and not os.path.isdir(out_path):
        raise UserError(f"{out_path}: is a file; the output must be a folder")
    parent = os.path.dirname(os.path.abspath(out_path))
    try:
        os.makedirs(parent, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=f".{os.path.basename(os.path.normpath(out_path))}-", dir=parent)
    except OSError as error:
        raise UserError(f"{out_path}: cannot be written: {error.strerror}") from error
    try:
        yield folder
        os.makedirs(out_path, exist_ok=True)
        # Weights of an earlier merge under other file names would be read in place of the new ones.
        for name in os.listdir(out_path):
            if name.startswith(("model", "pytorch_model")) and name.endswith(
                (".safetensors", ".bin", ".index.json")
            ):
                os.remove(os.path.join(out_path, name))
        # config.json last: without it the folder does not pass for a model.
        for name in sorted(os.listdir(folder), key=lambda name: name == "config.json"):
            os.replace(os.path.join(folder, name), os.path.join(out_path, name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
