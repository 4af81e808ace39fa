"""The typer application with all commands registered."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import demo, doctor, draining, importing, listing, notebooks, running, show, stats
from .common import write_line

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Traces of LLM programs: record them, read them, see what they cost.",
)


def _print_version(asked: bool) -> None:
    """Print the version and exit, if `--version` was given."""
    if asked:
        write_line(f"mlspan {__version__}")
        raise typer.Exit


@app.callback()
def read_root_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


_PASS_OPTIONS_THROUGH = {"allow_interspersed_args": False}

app.command("demo", rich_help_panel="Record")(demo.demo)
app.command("run", rich_help_panel="Record", context_settings=_PASS_OPTIONS_THROUGH)(running.run)
app.command("import", rich_help_panel="Record")(importing.import_)
app.add_typer(notebooks.app, name="notebook", rich_help_panel="Record")
app.command("drain", rich_help_panel="Record")(draining.drain)
app.command("doctor", rich_help_panel="Record")(doctor.doctor)
app.command("list", rich_help_panel="Read")(listing.list_)
app.command("show", rich_help_panel="Read")(show.show)
app.command("tail", rich_help_panel="Read")(listing.tail)
app.command("stats", rich_help_panel="Read")(stats.stats)
app.command("ui", rich_help_panel="Read")(running.ui)
