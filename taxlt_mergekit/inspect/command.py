"""`taxlt inspect`: facts about the vectors of a recipe, before they are merged."""

from pathlib import Path

import click

from taxlt_mergekit.errors import UserError, one_line
from taxlt_mergekit.process import imports_stay


@click.command(name="inspect", short_help="Facts about a recipe's vectors, before they are merged.")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for inspect.md, a CSV for each table, and a heat map.",
)
@click.option("--lora-merge-cache", help="Where models with an adapter are merged, as for mergekit-yaml.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with a model.")
def command(recipe: Path, output: Path | None, lora_merge_cache: str | None, trust_remote_code: bool) -> None:
    """Print sizes, angles and conflicts of the vectors of RECIPE: which was hardly trained, which collide.

    \b
    taxlt inspect merge_configs/quy_plus_tgt.yml --output quy
    """
    with imports_stay():
        import torch
        from mergekit.options import MergeOptions

        from taxlt_mergekit.inspect.page import blocks
        from taxlt_mergekit.inspect.vectors import read_vectors
        from taxlt_mergekit.report.tables import Table, page

    # Chunks are small, and threads that wait for each other spin, which on a busy machine takes minutes.
    torch.set_num_threads(1)
    options = MergeOptions(lora_merge_cache=lora_merge_cache, trust_remote_code=trust_remote_code)
    vectors = read_vectors(recipe, options)
    found = blocks(vectors, recipe.name)
    click.echo(page(found), nl=False)
    if output is None:
        return
    from taxlt_mergekit.inspect.picture import draw
    from taxlt_mergekit.report.plots import save

    try:
        output.mkdir(parents=True, exist_ok=True)
        for table in found:
            if isinstance(table, Table):
                (output / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
        save(draw(vectors), output / "vectors")
        (output / "inspect.md").write_text(page([*found, "![Heat map](vectors.svg)"]), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written: {one_line(error)}") from None
    click.echo(f"Wrote {output / 'inspect.md'}, its tables and vectors.png, vectors.svg.", err=True)
