"""Shared parts of the commands: options, consoles, and the reporting of failures."""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, ParamSpec, TypeVar

import typer
from rich.console import Console

from .._extras import tell_install

P = ParamSpec("P")
T = TypeVar("T")

_WIDTH_WITHOUT_TERMINAL: Final = 120  # columns; used if the output is no terminal and COLUMNS is not set

TrackingUriOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow's tracking server or database. [dim]Default: MLSPAN_TRACKING_URI, MLFLOW_TRACKING_URI, "
        "then mlflow.db in this folder.[/dim]",
        show_default=False,
    ),
]
ExperimentOption = Annotated[
    str | None,
    typer.Option(
        "--experiment",
        "-e",
        metavar="NAME|ID",
        help="Experiment, by name or id. [dim]Default: MLSPAN_EXPERIMENT, MLFLOW_EXPERIMENT_ID or _NAME.[/dim]",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


class CommandFailure(Exception):  # noqa: N818  # an expected outcome of a command, not a bug in mlspan
    """Error that ends a command with exit code 1. Its message is one line that says what to do."""


def command(fn: Callable[P, T]) -> Callable[P, T]:
    """Wrap *fn* as a command: print a CommandFailure as one line on standard error, and exit with code 1."""

    @functools.wraps(fn)
    def run_command(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return fn(*args, **kwargs)
        except CommandFailure as failure:
            print_error(str(failure))
            raise typer.Exit(1) from None

    return run_command


def make_output_console() -> Console:
    """Return a console for standard output that does not interpret markup."""
    return _make_console(stderr=False)


def make_error_console() -> Console:
    """Return a console for standard error that does not interpret markup."""
    return _make_console(stderr=True)


def _make_console(*, stderr: bool) -> Console:
    """Return a console. Its width is fixed if its stream is no terminal and COLUMNS is not set."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


def print_error(line: str) -> None:
    """Print an error as one line on standard error."""
    make_error_console().print(f"mlspan: {line}", style="red", soft_wrap=True)


def print_note(line: str) -> None:
    """Print a remark on standard error, so that standard output holds results only and can be piped."""
    make_error_console().print(line, style="dim", soft_wrap=True)


@contextmanager
def show_busy(what: str) -> Iterator[None]:
    """Show a spinner with the text *what* while the block runs, if standard error is a terminal."""
    console = make_error_console()
    if console.is_terminal:
        with console.status(f"{what} ...", spinner="dots" if not console.options.ascii_only else "line"):
            yield
    else:
        yield


def require_module(module: str, extra: str, why: str) -> None:
    """Require that *module* is installed.

    Raises:
        CommandFailure: if it is not; the message says that *why* needs it and how to install *extra*.
    """
    if importlib.util.find_spec(module) is None:
        raise CommandFailure(f"{why} needs {module}: {tell_install(extra)}")


def find_own_command() -> str:
    """Return the text to type to call mlspan again: ``mlspan``, or its path if the shell would not find this one."""
    here, found = Path(sys.executable).parent / "mlspan", shutil.which("mlspan")
    if not here.exists() or (found is not None and here.samefile(found)):
        return "mlspan"
    return shlex.quote(os.path.relpath(here) if here.is_relative_to(Path.cwd()) else str(here))


def write_line(text: str) -> None:
    """Write *text* and a newline to standard output, without wrapping it to the terminal's width."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
