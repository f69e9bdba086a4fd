"""`taxlt export`: folders in the form that mergekit's and lm-eval's repositories take."""

from collections.abc import Mapping
from pathlib import Path

import click

from taxlt_mergekit.errors import UserError, translated

_DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace files in DIR that differ.")


@click.group(name="export")
def export() -> None:
    """Write what could be contributed to lm-eval or mergekit, as their repositories want it."""


@export.command(name="lm-eval")
@_DIRECTORY
@_OVERWRITE
def lm_eval(directory: Path, overwrite: bool) -> None:
    """AmericasNLI, NusaX and XNLI's test split as lm-eval's own tasks.

    DIR stands for lm_eval/tasks of lm-eval's repository, or is a folder for `lm_eval --include_path DIR`.
    """
    from taxlt_mergekit.export.lm_eval import task_files

    _write(directory, task_files(), overwrite)


@export.command(name="mergekit")
@_DIRECTORY
@_OVERWRITE
def mergekit(directory: Path, overwrite: bool) -> None:
    """Recipes with mergekit's own methods, and definitions of encoder architectures with their test.

    DIR stands for the root of mergekit's repository.
    """
    from taxlt_mergekit.export.mergekit import repository_files

    _write(directory, repository_files(), overwrite)


def _write(directory: Path, files: Mapping[str, str], overwrite: bool) -> None:
    """Write all files, or none where one is in the way.

    Args:
        files: path below the directory → text.

    Raises:
        UserError: a file with other content is there, or the directory cannot be written.
    """
    with translated(str(directory), "nothing more was written"):
        for name, text in files.items():
            path = directory / name
            if path.exists() and not overwrite and path.read_bytes() != text.encode():
                raise UserError(f"{path}: is there with other content; give --overwrite to replace it")
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    click.echo(f"{len(files)} files written to {directory}")
