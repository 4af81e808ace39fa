"""What the commands share: options, the two consoles, and how a failure is told."""

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

_PIPED_WIDTH: Final = 120  # of what is no terminal and says no COLUMNS

TrackingUri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow's tracking server or database. [dim]Default: MLSPAN_TRACKING_URI, MLFLOW_TRACKING_URI, "
        "then mlflow.db in this folder.[/dim]",
        show_default=False,
    ),
]
Experiment = Annotated[
    str | None,
    typer.Option(
        "--experiment",
        "-e",
        metavar="NAME|ID",
        help="Experiment, by name or id. [dim]Default: MLSPAN_EXPERIMENT, MLFLOW_EXPERIMENT_ID or _NAME.[/dim]",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


class Failure(Exception):  # noqa: N818  # what a command answers with, not a mistake of ours
    """Ends the command with exit code 1; its text is one line that says what to do."""


def command(fn: Callable[P, T]) -> Callable[P, T]:
    """*fn* as a command: a Failure is one line on standard error."""

    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return fn(*args, **kwargs)
        except Failure as failure:
            complain(str(failure))
            raise typer.Exit(1) from None

    return run


def out() -> Console:
    """Standard output, with nothing in what it prints taken for markup."""
    return _console(stderr=False)


def err() -> Console:
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = _PIPED_WIDTH
    return console


def complain(line: str) -> None:
    err().print(f"mlspan: {line}", style="red", soft_wrap=True)


def note(line: str) -> None:
    """Tell something that is no result, so that results can be piped."""
    err().print(line, style="dim", soft_wrap=True)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    console = err()
    if console.is_terminal:
        with console.status(f"{what} ...", spinner="dots" if not console.options.ascii_only else "line"):
            yield
    else:
        yield


def need(module: str, extra: str, why: str) -> None:
    """Raises Failure where *module* is not installed."""
    if importlib.util.find_spec(module) is None:
        raise Failure(f"{why} needs {module}: {tell_install(extra)}")


def myself() -> str:
    """What a person types to call this command again: its path where the shell would not find it."""
    here, found = Path(sys.executable).parent / "mlspan", shutil.which("mlspan")
    if not here.exists() or (found is not None and here.samefile(found)):
        return "mlspan"
    return shlex.quote(os.path.relpath(here) if here.is_relative_to(Path.cwd()) else str(here))


def write(text: str) -> None:
    """*text* as it is, whatever the terminal's width."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
