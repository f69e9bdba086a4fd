"""`taxlt info`: what this environment is and has, in one screen; what an issue report needs."""

import click

from taxlt_mergekit import markdown

_SHOWN = 2


@click.command(name="info", short_help="Versions, devices and data: what an issue report needs.")
@click.option("--all", "everything", is_flag=True, help="Name every file that is missing, not the first two.")
def command(everything: bool) -> None:
    """Print versions of the hosts and libraries, whether the hook is on, devices, and what TAXLT_DATA has.

    A version with (!) is not one that this package was made for.
    """
    from taxlt_mergekit.info import data, environment
    from taxlt_mergekit.paper.rows import LAYOUT, data_dir

    click.echo(markdown.table(["library", "version", "asked for"], list(environment.versions()), left=3))
    click.echo(f"\nhook      {environment.hook()}")
    for line in environment.devices():
        click.echo(f"device    {line}")
    root = data_dir()
    if root is None:
        click.echo(
            "data      TAXLT_DATA is not set: benchmarks come from the Hugging Face hub, and MARC, which was"
        )
        click.echo(f"          withdrawn there, from nowhere; TAXLT_DATA=DIR reads files ({LAYOUT})")
        return
    click.echo(f"data      TAXLT_DATA={root}\n")
    rows = []
    for title, part, have, missing in data.files(root):
        shown = missing if everything else missing[:_SHOWN]
        more = [] if len(shown) == len(missing) else [f"and {len(missing) - len(shown)} more"]
        rows.append([title, part, have, ", ".join(shown + more)])
    click.echo(markdown.table(["benchmark", "part", "languages", "missing"], rows, left=4))
