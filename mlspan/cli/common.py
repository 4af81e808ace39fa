"""Shared parts of the commands: options, consoles, and the reporting of failures."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO

from .arguments import Option

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_WITHOUT_TERMINAL: Final = 120  # columns; used if the output is no terminal and COLUMNS is not set
RED, BOLD, DIM, _PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"

TrackingUriOption = Annotated[
    str | None,
    Option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow's tracking server or database.",
        default="MLSPAN_TRACKING_URI, MLFLOW_TRACKING_URI, then mlflow.db in this folder",
        is_global=True,
    ),
]
ExperimentOption = Annotated[
    str | None,
    Option(
        "--experiment",
        "-e",
        metavar="NAME|ID",
        help="Experiment, by name or id.",
        default="MLSPAN_EXPERIMENT, MLFLOW_EXPERIMENT_ID or _NAME",
        is_global=True,
    ),
]
JsonOption = Annotated[bool, Option("--json", help="Print JSON, for other programs.")]

SpoolDirOption = Annotated[
    Path | None,
    Option(
        "--spool-dir",
        metavar="DIR",
        help="Folder of unsent spans.",
        default="MLSPAN_SPOOL_DIR, then ~/.local/state/mlspan/spool",
    ),
]

_settings: Final = {"verbose": False}


class CommandFailure(Exception):  # noqa: N818  # an expected outcome of a command, not a bug in mlspan
    """Error that ends a command with exit code 1. Its message is one line that says what to do."""


def set_verbose(verbose: bool) -> None:
    """Set whether commands say what they read, and show tracebacks."""
    _settings["verbose"] = verbose


def is_verbose() -> bool:
    """Return whether ``-v`` was given."""
    return _settings["verbose"]


def make_output_console() -> Console:
    """Return a console for standard output that does not interpret markup."""
    return _make_console(stderr=False)


def make_error_console() -> Console:
    """Return a console for standard error that does not interpret markup."""
    return _make_console(stderr=True)


def _make_console(*, stderr: bool) -> Console:
    """Return a console. Its width is fixed if its stream is no terminal and COLUMNS is not set."""
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


def print_error(line: str) -> None:
    """Print an error as one line on standard error."""
    _print_aside(f"mlspan: {line}", RED)


def print_note(line: str) -> None:
    """Print a remark on standard error, so that standard output holds results only and can be piped."""
    _print_aside(line, DIM)


def print_detail(line: str) -> None:
    """Print a remark that only ``-v`` asks for."""
    if is_verbose():
        print_note(line)


def _print_aside(line: str, style: str) -> None:
    sys.stderr.write(f"{style_text(line, style, sys.stderr)}\n")
    sys.stderr.flush()


def style_text(text: str, style: str, stream: TextIO) -> str:
    """Return *text* in *style*, an escape sequence, if *stream* is a terminal that shows it."""
    shown = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"{style}{text}{_PLAIN}" if shown else text


@contextmanager
def show_busy(what: str) -> Iterator[None]:
    """Show a spinner with the text *what* while the block runs, if standard error is a terminal."""
    began = time.perf_counter()
    if sys.stderr.isatty():
        console = make_error_console()
        with console.status(f"{what} ...", spinner="dots" if not console.options.ascii_only else "line"):
            yield
    else:
        yield
    print_detail(f"{what}: {time.perf_counter() - began:.2f} s")


def require_module(module: str, extra: str, why: str) -> None:
    """Require that *module* is installed.

    Raises:
        CommandFailure: if it is not; the message says that *why* needs it and how to install *extra*.
    """
    if importlib.util.find_spec(module) is None:
        from .._extras import tell_install

        raise CommandFailure(f"{why} needs {module}: {tell_install(extra)}")


def find_own_command() -> str:
    """Return the text to type to call mlspan again: ``mlspan``, or its path if the shell would not find this one."""
    import shlex
    import shutil

    here, found = Path(sys.executable).parent / "mlspan", shutil.which("mlspan")
    if not here.exists() or (found is not None and here.samefile(found)):
        return "mlspan"
    return shlex.quote(os.path.relpath(here) if here.is_relative_to(Path.cwd()) else str(here))


def write_file(path: Path, text: str) -> None:
    """Write a file that was asked for, and say so.

    Raises:
        CommandFailure: if it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailure(f"cannot write {path}: {error.strerror}") from error
    print_note(f"wrote {path}")


def write_line(text: str) -> None:
    """Write *text* and a newline to standard output, without wrapping it to the terminal's width."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
