"""The console command `taxlt`. A command is imported when it is called, so that `taxlt --help` is quick."""

import importlib
from typing import Any

import click

from taxlt_mergekit import __version__, register
from taxlt_mergekit.errors import translated
from taxlt_mergekit.process import imports_stay

# Command -> where its click command is, and the line that `taxlt --help` shows (kept here so that the
# list needs no import of torch).
COMMANDS = {
    "train": ("taxlt_mergekit.train.command:train", "Train a language vector or a task vector."),
    "import": (
        "taxlt_mergekit.sft.command:imports",
        "Make checkpoints of vectors that others published.",
    ),
    "sweep": (
        "taxlt_mergekit.sweep.command:command",
        "Search scaling factors and densities on validation data.",
    ),
    "inspect": (
        "taxlt_mergekit.inspect.command:command",
        "Facts about a recipe's vectors, before they are merged.",
    ),
    "report": ("taxlt_mergekit.report.command:command", "Tables and figures of results, beside the paper's."),
    "demo": (
        "taxlt_mergekit.demo.command:command",
        "The method in miniature, from nothing, in a few minutes.",
    ),
    "recipes": (
        "taxlt_mergekit.paper.command:recipes",
        "Write the paper's mergekit recipes, merge_configs/.",
    ),
    "export": (
        "taxlt_mergekit.export.command:export",
        "Write vectors to share, and what could be contributed to lm-eval or mergekit.",
    ),
    "info": (
        "taxlt_mergekit.info.command:command",
        "Versions, devices and data: what an issue report needs.",
    ),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports a command when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever a library raises in it is one line."""
        with translated("taxlt", "(taxlt -v … shows where)", as_it_is=ctx.params["verbose"]):
            return super().invoke(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        with imports_stay():
            return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="taxlt-mergekit")
@click.option("-v", "--verbose", is_flag=True, help="Show a library's own error with its traceback.")
def main(verbose: bool) -> None:
    """Give a task model a language it has no labelled data for, by adding weight vectors.

    Merging and evaluation run through the hosts' own commands, mergekit-yaml and lm_eval.
    """
    register()  # these commands need both hosts completed, whatever TAXLT_NO_AUTOLOAD says
