"""One merge from recipe to folder: mergekit's own run, given a task model's head and checked on both ends."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
import tqdm
from mergekit.common import ImmutableMap, ModelReference
from mergekit.config import InputSliceDefinition, MergeConfiguration
from mergekit.graph import Executor
from mergekit.io.tasks import GatherTensors, LoaderCache
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from mergekit.options import MergeOptions
from pydantic import PrivateAttr
from torch import Tensor

from taxlt_mergekit.card import model_card
from taxlt_mergekit.checks import Cast, check_recipe
from taxlt_mergekit.cutoffs import global_cutoffs
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.heads import Layout, check_shapes, first_line, open_checkpoint, output_layout
from taxlt_mergekit.methods import (
    METHODS,
    Record,
    one_density,
    refuse_non_finite,
    signed_weight,
)
from taxlt_mergekit.sparsity import Cutoff, NotFiniteError, Select

LOG = logging.getLogger(__name__)

# Unrelated weights are about orthogonal, and then ‖θ − θ₀‖ ≥ ‖θ₀‖ whatever the size of θ.
UNRELATED = 1.0

# Bytes; reopening a file costs about a millisecond, so it is done for few tensors.
_LARGE = 16 << 20

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


class OutputConfiguration(MergeConfiguration):
    """A recipe as `run_merge` sees it: `base_model` is the task model, the donor of all but weights.

    `recipe`, which the planner sees, keeps θ₀ as `base_model`.
    """

    _recipe: MergeConfiguration = PrivateAttr()
    _cast: Cast = PrivateAttr()
    _layout: Layout = PrivateAttr()
    _record: Record = PrivateAttr(default_factory=Record)
    _terms: dict[ModelReference, dict[str, Any]] = PrivateAttr(default_factory=dict)
    _name: str = PrivateAttr()


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


def complete_plan(output: OutputConfiguration, planned: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Give mergekit's planned merges what one tensor by itself cannot know.

    Args:
        planned: mergekit's (weight, task that merges it), whose parameters are resolved.

    Returns:
        The same with the output's type, the record to fill and, where the scope is global, the cutoffs.
    """
    cast, method = output._cast, METHODS[output.merge_method]
    densities: dict[ModelReference, set[float]] = {}
    for weight, task in planned:
        for model, role in cast.roles.items():
            if model not in task.input_parameters or weight.name in output._layout.head:
                continue
            bound = task.input_parameters[model]
            signed_weight(str(model), bound["role"], bound["weight"], method.source_sign)
            densities.setdefault(model, set()).add(bound["density"])
            output._terms.setdefault(model, {"role": role, "weight": set(), "density": set()})
            output._terms[model]["weight"].add(1.0 if bound["weight"] is None else bound["weight"])
            output._terms[model]["density"].add(bound["density"])

    cutoffs: dict[str, dict[ModelReference, Any]] = {}
    shared = dict(planned[0][1].parameters.items()) if planned else {}
    if shared.get("scope") == "global":
        sparse = {m: d for m, values in densities.items() if (d := one_density(str(m), values)) < 1}
        for model in tqdm.tqdm(sparse, desc="Finding global thresholds", disable=not sparse):

            def pairs(model=model):
                for weight, task in planned:
                    if weight.name in output._layout.head:
                        continue
                    tensors = _load(task.gather_tensors, (cast.base, model))
                    if len(tensors) == 2 and tensors[cast.base].is_floating_point():
                        yield weight.name, tensors[cast.base], tensors[model]
                        _release(tensors.values())

            found = find_global_cutoffs(pairs, cast.base, model, sparse[model], shared["select"])
            for name, cutoff in found.items():
                cutoffs.setdefault(name, {})[model] = cutoff

    result = []
    for weight, task in planned:
        parameters = dict(task.parameters.items()) | {
            "record": output._record,
            "cutoffs": cutoffs.get(weight.name, {}),
        }
        fields = {name: getattr(task, name) for name in type(task).model_fields}
        fields |= {"parameters": ImmutableMap(parameters), "out_dtype": output.out_dtype}
        result.append((weight, MergeTask.model_construct(**fields)))
    return result


class MergeTask(ExecuteMergeMethodTask):
    """A planned merge of one tensor that gives the pages of its inputs back when it is done."""

    def execute(self, tensors: dict[ModelReference, Any], **kwargs: Any) -> Any:
        result = super().execute(tensors, **kwargs)
        _release(tensors.values())
        return result


def _release(tensors: Iterable[Any]) -> None:
    """Close the input files after a large tensor: their mapped pages count as this process's memory."""
    if any(tensor.nbytes >= _LARGE for tensor in tensors):
        LoaderCache().flush_all()


def find_global_cutoffs(
    pairs: Callable[[], Iterable[tuple[str, Tensor, Tensor]]],
    base: ModelReference,
    model: ModelReference,
    density: float,
    select: Select,
) -> dict[str, Cutoff]:
    """`cutoffs.global_cutoffs` of a named vector.

    Raises:
        UserError: a NaN or an infinity, with the names of its tensor and model.
    """
    try:
        return global_cutoffs(pairs, density, select)
    except NotFiniteError:
        for name, *pair in pairs():
            refuse_non_finite(dict(zip(map(str, (base, model)), pair, strict=True)), name)
        raise


def _add_base_to_slices(recipe: MergeConfiguration, base: ModelReference) -> None:
    """θ₀ takes part in every slice, listed or not, as it does under `models`."""
    slices = [*(recipe.slices or [])]
    for module in (recipe.modules or {}).values():
        slices += module.slices or []
    for piece in slices:
        if base not in [source.model for source in piece.sources]:
            piece.sources.append(InputSliceDefinition(model=base, layer_range=piece.sources[0].layer_range))


def _load(gather: Any, models: tuple[ModelReference, ...]) -> dict[ModelReference, Tensor]:
    """The tensors of some models for one output tensor, as the planned merge will get them."""
    if isinstance(gather, GatherTensors):
        tasks = dict(zip(gather.weight_info, gather.arguments().values(), strict=True))
        loaded = {model: tasks[model].execute() for model in models if model in tasks}
        return {model: tensor for model, tensor in loaded.items() if tensor is not None}
    (_, tensors), *_ = Executor([gather]).run(quiet=True)  # the recipe aligns vocabularies
    return {model: tensors[model] for model in models if model in tensors}


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
