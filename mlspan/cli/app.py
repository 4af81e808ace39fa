"""The typer application. A command's module is imported when the command is run, so that the others cost nothing."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import typer

from .._version import __version__
from .common import write_line


class _Command(NamedTuple):
    """A command: the module and the function that it is, and its line in the help, the first of its docstring."""

    module: str
    function: str
    panel: str
    summary: str


COMMANDS: Final = {
    "demo": _Command("demo", "demo", "Record", "Record a trace and show it."),
    "run": _Command("running", "run", "Record", "Run a Python program with tracing on."),
    "import": _Command("importing", "import_", "Record", "Store traces from an OpenTelemetry file in MLflow."),
    "notebook": _Command("notebooks", "app", "Record", "Turn autolog on in every IPython and Jupyter session."),
    "drain": _Command("draining", "drain", "Record", "Send the spans that ended programs have left on disk."),
    "doctor": _Command(
        "doctor",
        "doctor",
        "Record",
        "Check settings, libraries, and whether traces arrive, and list what waits on disk for whom.",
    ),
    "list": _Command("listing", "list_", "Read", "List traces, the newest first."),
    "show": _Command("show", "show", "Read", "Show one trace as a tree with a timeline."),
    "tail": _Command("listing", "tail", "Read", "Show traces as they are stored, until Ctrl-C."),
    "stats": _Command("stats", "stats", "Read", "Add up cost, tokens, latency and errors."),
    "ui": _Command(
        "running",
        "ui",
        "Read",
        "Start MLflow's viewer on the store that traces go to, and print its address. Ctrl-C ends it.",
    ),
}
PRIVATE_FIELDS: Final = {"_MLSPAN_COMPLETE": "the shell completes the names of the commands, and not their options"}
_PASS_OPTIONS_THROUGH: Final = {"run": {"allow_interspersed_args": False}}


def make_app(wanted: str | None = None) -> typer.Typer:
    """Return the application.

    Args:
        wanted: the only command that can be run; the others are there with their line in the help. None: all can.
    """
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Traces of LLM programs: record them, read them, see what they cost.",
    )
    app.callback()(read_root_options)
    for name, found in COMMANDS.items():
        function: Any = _run_nothing
        if wanted in {None, name}:
            function = getattr(importlib.import_module(f".{found.module}", __package__), found.function)
        if isinstance(function, typer.Typer):
            app.add_typer(function, name=name, rich_help_panel=found.panel)
        else:
            settings = _PASS_OPTIONS_THROUGH.get(name)
            summary = found.summary if function is _run_nothing else None
            app.command(name, rich_help_panel=found.panel, context_settings=settings, help=summary)(function)
    return app


def find_wanted(arguments: list[str]) -> str:
    """Return the command that these arguments name, or no name if they name none."""
    return next((one for one in arguments if not one.startswith("-")), "")


def run_app() -> None:
    """Run the command that the process's arguments name."""
    is_completing = "_MLSPAN_COMPLETE" in os.environ  # the shell asks for any command's options
    make_app(None if is_completing else find_wanted(sys.argv[1:]))(prog_name="mlspan")


def _print_version(asked: bool) -> None:
    """Print the version and exit, if `--version` was given."""
    if asked:
        write_line(f"mlspan {__version__}")
        raise typer.Exit


def read_root_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def _run_nothing() -> None:
    """Stand for a command that is not the one to run."""


def __getattr__(name: str) -> Callable[..., object]:
    if name == "app":
        return make_app()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
