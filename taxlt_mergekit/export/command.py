"""`taxlt export`: sparse fine-tunings, and folders in the form that the hosts' repositories take."""

from collections.abc import Mapping
from pathlib import Path

import click

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.process import imports_stay

_DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace files in DIR that differ.")


@click.group(name="export")
def export() -> None:
    """Write vectors to share, and what could be contributed to lm-eval or mergekit."""


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


@export.command(name="sft")
@click.argument("checkpoint", metavar="MODEL")
@click.option("--model", "base", required=True, help="θ₀, which MODEL was trained from.")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def sft(checkpoint: str, base: str, out: Path) -> None:
    """MODEL's difference to θ₀ as a sparse fine-tuning (Ansell et al. 2022): OUT/pytorch_diff.bin.

    `taxlt import sft` makes the same checkpoint of it, bit for bit.
    """
    with imports_stay():
        from taxlt_mergekit.sft import extract, restore
    found = extract.extract(restore.open_base(checkpoint), restore.open_base(base))
    size = extract.write(found, out)
    click.echo(
        f"{found.changed:,} changed parameters of {len(found.entries)} tensors, {len(found.whole)} whole "
        f"tensors: {size / 1e6:,.1f} MB in {out}"
    )
    if found.inexact:
        click.echo(f"  whole, because no difference restores them: {', '.join(found.inexact)}")


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
