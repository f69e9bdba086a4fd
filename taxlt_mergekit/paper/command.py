"""`taxlt recipes`: writes the paper's recipes, or checks that a folder holds them."""

import re
from pathlib import Path

import click

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import Model
from taxlt_mergekit.paper.recipes import chat_recipe, recipe_files


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("merge_configs"),
    show_default=True,
    help="Folder to write the recipes to.",
)
@click.option("--model", metavar="ID", help="Another θ₀ in place of the paper's: a folder or the hub's name.")
@click.option(
    "--benchmark", type=click.Choice(list(catalog.load().benchmarks)), help="This benchmark's alone."
)
@click.option(
    "--chat",
    metavar="ID",
    help="With --model, a decoder, and --lang: its chat vector alone. ID is the instruction-tuned model.",
)
@click.option("--lang", metavar="CODE", help="With --chat: the language's code.")
@click.option("--check", is_flag=True, help="Write nothing; fail if the folder differs from the catalog.")
def recipes(
    output: Path,
    model: str | None,
    benchmark: str | None,
    chat: str | None,
    lang: str | None,
    check: bool,
) -> None:
    """Write the paper's mergekit recipes: every target language, variant and scaling factor.

    For another θ₀, `taxlt recipes --model MODEL --output recipes` takes XLM-R base's factors, to start from;
    `taxlt sweep` finds the model's own. With `--chat CHAT --lang CODE` it is a decoder's chat vector. Vectors
    stand where `taxlt train` puts them, in vectors/NAME.
    """
    other = Model(id=model, folder=Path(model).name) if model else None
    if other and not other.folder:
        raise UserError(f"--model {model}: give the model's folder by its name, or the hub's name")
    root = output.as_posix() if other else "merge_configs"
    if chat is None and lang is None:
        texts = dict(recipe_files(other, benchmark, root))
    elif chat and lang and other and not benchmark:
        if not re.fullmatch(r"[\w-]+", lang):
            raise UserError(f"--lang {lang}: give a code such as quy")
        texts = dict([chat_recipe(other, chat, lang, root)])
    else:
        raise UserError("--chat, --lang and --model go together, without --benchmark")
    if check:
        there = {path.relative_to(output).as_posix() for path in output.rglob("*.yml")}
        stale = [
            name
            for name in sorted(there | set(texts))
            if name not in there
            or name not in texts
            or (output / name).read_text(encoding="utf-8") != texts[name]
        ]
        if stale:
            raise UserError(
                f"{output / stale[0]}: differs from the catalog, as do {len(stale) - 1} others; "
                "run `taxlt recipes`"
            )
        click.echo(f"{len(texts)} recipes in {output} are as the catalog says")
        return
    for name, text in texts.items():
        path = output / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    count = "1 recipe" if len(texts) == 1 else f"{len(texts)} recipes"
    click.echo(f"{count} written to {output}")
