"""Writes the paper's recipes, merge_configs/, from the catalog."""

from collections.abc import Iterator
from pathlib import Path

import click

from taxlt_mergekit.catalog import Benchmark, Model, Variant, load
from taxlt_mergekit.errors import UserError

# Variant -> the paper's name, the merge method, and the sign of each language's vector.
VARIANTS: dict[Variant, tuple[str, str, dict[str, str]]] = {
    "plus_src": ("+SRC", "xlt_additive", {"source": "+"}),
    "plus_tgt": ("+TGT", "xlt_additive", {"target": "+"}),
    "plus_src_plus_tgt": ("+SRC+TGT", "xlt_additive", {"source": "+", "target": "+"}),
    "minus_src_plus_tgt": ("−SRC+TGT", "xlt_analogy", {"source": "−", "target": "+"}),
}


def recipe_files(
    other: Model | None = None, only: str | None = None, root: str = "merge_configs"
) -> Iterator[tuple[str, str]]:
    """Every recipe of the paper as (path below the folder of recipes, text).

    Languages are those of tables 5 and 6, scaling factors those of table 9. XLM-R base stands at the top,
    XLM-R large in a folder of its own; +SRC has no target language, hence one recipe a benchmark.

    Args:
        other: write XLM-R base's recipes for this model in its place.
        only: a benchmark's key.
        root: the folder of recipes, for the commands in their comments.
    """
    catalog = load()
    models = {"base": other} if other else catalog.models
    for key, benchmark in catalog.benchmarks.items():
        if only not in (None, key):
            continue
        for size, factors in benchmark.scaling_factors.items():
            if size not in models:
                continue
            model = models[size]
            folder = "" if size == "base" else f"{model.folder}/"
            for variant, weight in factors.items():
                if variant == "plus_src":
                    path = f"{folder}{key}_plus_src.yml"
                    yield path, _recipe(f"{root}/{path}", benchmark, model, variant, weight, None)
                    continue
                for language in benchmark.languages:
                    path = f"{folder}{benchmark.recipe_prefix}{language}_{variant}.yml"
                    yield path, _recipe(f"{root}/{path}", benchmark, model, variant, weight, language)


def _recipe(
    path: str, benchmark: Benchmark, model: Model, variant: Variant, weight: float, language: str | None
) -> str:
    catalog = load()
    name, method, signs = VARIANTS[variant]
    codes = {"source": benchmark.source, "target": language}
    languages = {
        "source": catalog.sources[benchmark.source],
        "target": benchmark.languages.get(language or ""),
    }
    subject = f"{languages['target']} ({language})" if language else f"all languages of {benchmark.title}"
    task_folder = f"vectors/{model.folder}/task/{benchmark.task_vector}"
    formula = " ".join(
        ["θ' = θ₀ + τ_task", *(f"{sign} {weight:g} τ_{codes[role]}" for role, sign in signs.items())]
    )
    whose, where = ("", ", from the hub") if model in catalog.models.values() else (", XLM-R base", "")
    task_name = f"{benchmark.group}_{language}" if language else benchmark.group
    comment = [
        f"{subject}, {benchmark.title}, {name}, {model.id}",
        f"{formula}    (Parović et al. 2024, section 2.1; λ from table 9{whose})",
        "",
        f"base_model: θ₀, the pre-trained model{where}",
        f"task:       {benchmark.task_vector}, trained in {languages['source']}:",
        f"            taxlt train task {model.id} --task {benchmark.task_vector}",
    ]
    for role in signs:
        comment += [
            f"{role + ':':<11} {languages[role]}, trained on raw text:",
            f"            taxlt train language {model.id} --corpus {codes[role]}.txt --lang {codes[role]}",
        ]
    comment += [
        "",
        f"mergekit-yaml {path} out/",
        f"lm_eval --model hf-seq-cls --model_args pretrained=out/ --tasks {task_name}",
    ]
    body = [
        f"merge_method: {method}",
        f"base_model: {model.id}",
        "models:",
        *_model_entry(task_folder, "role: task"),
    ]
    for role in signs:
        body += _model_entry(_language_folder(model, codes[role]), f"role: {role}, weight: {weight:g}")
    body.append("dtype: float32")
    return "\n".join([*(f"# {line}".rstrip() for line in comment), *body]) + "\n"


def _model_entry(folder: str, parameters: str) -> list[str]:
    return [f"  - model: {folder}", f"    parameters: {{{parameters}}}"]


def _language_folder(model: Model, code: str | None) -> str:
    return f"vectors/{model.folder}/lang/{code}"


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("merge_configs"),
    show_default=True,
    help="Folder to write the recipes to.",
)
@click.option("--model", metavar="ID", help="Another θ₀ in place of the paper's: a folder or the hub's name.")
@click.option("--benchmark", type=click.Choice(list(load().benchmarks)), help="This benchmark's alone.")
@click.option("--check", is_flag=True, help="Write nothing; fail if the folder differs from the catalog.")
def command(output: Path, model: str | None, benchmark: str | None, check: bool) -> None:
    """Write the paper's mergekit recipes: every target language, variant and scaling factor.

    For another θ₀, `taxlt recipes --model MODEL --output recipes` takes XLM-R base's factors, to start from;
    `taxlt sweep` finds the model's own. Vectors stand where `taxlt train` puts them, in vectors/NAME.
    """
    other = Model(id=model, folder=Path(model).name) if model else None
    if other and not other.folder:
        raise UserError(f"--model {model}: give the model's folder by its name, or the hub's name")
    recipes = dict(recipe_files(other, benchmark, output.as_posix() if other else "merge_configs"))
    if check:
        there = {path.relative_to(output).as_posix() for path in output.rglob("*.yml")}
        stale = [
            name
            for name in sorted(there | set(recipes))
            if name not in there
            or name not in recipes
            or (output / name).read_text(encoding="utf-8") != recipes[name]
        ]
        if stale:
            raise UserError(
                f"{output / stale[0]}: differs from the catalog, as do {len(stale) - 1} others; "
                "run `taxlt recipes`"
            )
        click.echo(f"{len(recipes)} recipes in {output} are as the catalog says")
        return
    for name, text in recipes.items():
        path = output / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    click.echo(f"{len(recipes)} recipes written to {output}")
