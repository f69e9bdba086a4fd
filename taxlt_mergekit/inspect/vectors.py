"""The vectors of a recipe, read through mergekit's own plan of the merge, tensor by tensor."""

from dataclasses import dataclass
from pathlib import Path

import tqdm
from mergekit.common import ModelReference
from mergekit.options import MergeOptions

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.inspect.facts import Facts, measure
from taxlt_mergekit.merge.methods.base import refuse_non_finite
from taxlt_mergekit.merge.methods.table import METHODS
from taxlt_mergekit.merge.plan import Given, VectorPlanner, loads
from taxlt_mergekit.merge.run import prepare
from taxlt_mergekit.sweep.recipe import parse_recipe


@dataclass(frozen=True)
class Vectors:
    """The vectors of a recipe and what was measured of them.

    Attributes:
        base: θ₀.
        given: vector → its role and scaling factors, the task vector first.
        facts: merged tensor → its facts, vectors in the order of `given`.
    """

    base: ModelReference
    given: dict[ModelReference, Given]
    facts: dict[str, Facts]


def read_vectors(path: Path, options: MergeOptions) -> Vectors:
    """Measure the vectors of a recipe.

    Raises:
        UserError: what `mergekit-yaml` would refuse, slices or a new vocabulary, NaN or infinity in an input.
    """
    text, recipe = parse_recipe(path, "taxlt inspect")
    if recipe.slices or recipe.tokenizer or recipe.tokenizer_source:
        raise UserError(
            f"{path}: vectors are compared in the models' own shapes; leave out slices and tokenizer"
        )
    if recipe.base_model is None:
        raise UserError(f"{path}: names no base_model, so there are no vectors to look at")
    if "scope" in METHODS[recipe.merge_method].shared:  # thresholds over whole vectors would be looked for
        recipe.parameters = (recipe.parameters or {}) | {"scope": "tensor"}
    merge = prepare(recipe, str(path.with_suffix("")), options, text)
    cast = merge.cast
    planned = VectorPlanner(
        merge, options, cast.task.config(trust_remote_code=options.trust_remote_code)
    ).plan_body()
    models = sorted(cast.roles, key=lambda model: cast.roles[model] != "task")
    facts = {}
    for name, task in tqdm.tqdm(planned, desc="Reading vectors", leave=False, disable=None):
        tensors = {model: load.execute() for model, load in loads(task.gather_tensors).items()}
        base = tensors[cast.base]
        checkpoints = [base if tensors.get(model) is None else tensors[model] for model in models]
        facts[name] = measure(base, checkpoints, task.output_weight.vocabulary_axis)
        if not facts[name].is_finite:
            refuse_non_finite(
                {str(cast.base): base} | dict(zip(map(str, models), checkpoints, strict=True)), name
            )
    return Vectors(cast.base, {model: merge.given[model] for model in models}, facts)
