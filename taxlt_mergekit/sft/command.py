"""`taxlt import sft`: sparse fine-tunings that others trained, as checkpoints that recipes name."""

import os
import sys
from pathlib import Path

import click

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import vector_folder
from taxlt_mergekit.process import imports_stay


@click.group(name="import", context_settings={"help_option_names": ["-h", "--help"]})
def imports() -> None:
    """Make checkpoints of vectors that others published, without training."""


def _names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


@imports.command()
@click.argument("source", required=False)
@click.option(
    "--model", required=True, help="θ₀, which the vector was trained from: a folder or the hub's name."
)
@click.option("--lang", help="The vector is a language's: its code, as in table 5. Names the output folder.")
@click.option(
    "--task", "task_name", metavar="NAME", help="The vector is a task's: multinli, smsa, or your name."
)
@click.option(
    "--labels",
    callback=_names,
    help="Label names in the order of the head's numbers. [the catalog's for multinli and smsa]",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the checkpoint goes. [vectors/MODEL/lang/LANG or …/task/NAME, as recipes name it]",
)
@click.option(
    "--all",
    "benchmark",
    type=click.Choice(list(catalog.load().benchmarks)),
    help="In place of SOURCE: whatever is published for this benchmark.",
)
@click.option("--yes", is_flag=True, help="With --all: download without asking.")
def sft(
    source: str | None,
    model: str,
    lang: str | None,
    task_name: str | None,
    labels: list[str] | None,
    output: Path | None,
    benchmark: str | None,
    yes: bool,
) -> None:
    """Import a sparse fine-tuning (Ansell et al. 2022) as a whole checkpoint.

    SOURCE is a pytorch_diff.bin, a folder that holds one, or a model on the hub that does.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if benchmark:
        if source or lang or task_name or labels or output:
            raise UserError("--all names what is imported and where; give --model and --yes beside it alone")
        _all(benchmark, model, yes)
        return
    if source is None:
        raise UserError("SOURCE is missing: a pytorch_diff.bin, its folder or its name on the hub; or --all")
    if (lang is None) == (task_name is None):
        raise UserError("give --lang CODE for a language's vector, or --task NAME for a task's")
    if labels and lang:
        raise UserError("--labels belongs to --task")
    name = lang or task_name or ""
    if not name or "/" in name or name.startswith("."):
        raise UserError(
            f"{'--lang' if lang is not None else '--task'} {name!r}: must be able to name a folder"
        )
    folder = output or Path(vector_folder(model, "lang" if lang else "task", name))
    _import(source, model, lang, task_name, labels, folder)


def _all(benchmark: str, model: str, yes: bool) -> None:
    with imports_stay():
        from taxlt_mergekit.sft import published, restore
    known = published.load()
    if catalog.hub_id(model) != known.base:
        raise UserError(f"--all: what is published was trained from {known.base}, not from {model}")
    entries = published.wanted(benchmark)
    folders = {entry: Path(vector_folder(model, entry.kind, entry.code)) for entry in entries}
    there = [entry for entry, folder in folders.items() if (folder / "config.json").exists()]
    due = [entry for entry in entries if entry.source and entry not in there]
    click.echo(published.table(entries, there))
    if not due:
        click.echo("nothing to download")
        return
    click.echo(published.estimate(due, restore.XLMR_BASE_BYTES))
    if not yes:
        if not sys.stdin.isatty():
            raise UserError("nothing was downloaded; add --yes to go on")
        click.confirm("Go on?", abort=True)
    for entry in due:
        is_task = entry.kind == "task"
        lang, task = (None, entry.code) if is_task else (entry.code, None)
        _import(entry.source or "", model, lang, task, None, folders[entry])


def _import(
    source: str, model: str, lang: str | None, task: str | None, labels: list[str] | None, folder: Path
) -> None:
    with imports_stay():
        from taxlt_mergekit.sft import file, restore
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; remove it, or choose another --output")
    tuning = file.read(file.locate(source))
    base = restore.open_base(model)
    if lang is not None:
        restored = restore.language(source, tuning, base)
    else:
        known: dict[str, tuple[str, ...]] = {
            entry.task_vector: entry.labels for entry in catalog.load().benchmarks.values()
        }
        names = labels or list(known.get(task or "", ())) or None
        if names is None:
            click.echo("warning: without --labels the output's labels are LABEL_0, LABEL_1, …", err=True)
        restored = restore.task(source, tuning, base, names)
    restore.write(restored, folder, lang or task or "", lang)
    head = sum(not isinstance(value, str) for value in restored.whole.values())
    click.echo(
        f"{source}: {restored.entries:,} parameters of {len(restored.changes)} tensors changed"
        + (f", {head} whole tensors taken" if head else "")
        + f"; written to {folder}"
    )
    if restored.left_out:
        click.echo(f"  left out, for {model} has no such tensors: {', '.join(restored.left_out)}")
