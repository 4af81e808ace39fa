"""The commands. A command's module is imported when the command is run, so that the others cost nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from .arguments import Function


class Command(NamedTuple):
    """A command: the module and function that it is, and its line in the help, the first of its docstring.

    Instead of a function, it may be a dict of functions by name: commands of its own.
    """

    module: str
    function: str
    panel: str
    summary: str


COMMANDS: Final = {
    "demo": Command("demo", "demo", "Record", "Record a trace and show it."),
    "run": Command("running", "run", "Record", "Run a Python program with tracing on."),
    "import": Command("importing", "import_", "Record", "Store traces from an OpenTelemetry file in MLflow."),
    "notebook": Command("notebooks", "COMMANDS", "Record", "Turn autolog on in every IPython and Jupyter session."),
    "drain": Command("draining", "drain", "Record", "Send the spans that ended programs have left on disk."),
    "doctor": Command(
        "doctor",
        "doctor",
        "Record",
        "Check settings, libraries, and whether traces arrive, and list what waits on disk for whom.",
    ),
    "list": Command("listing", "list_", "Read", "List traces, the newest first."),
    "show": Command("show", "show", "Read", "Show one trace as a tree with a timeline."),
    "tail": Command("listing", "tail", "Read", "Show traces as they are stored, until Ctrl-C."),
    "stats": Command("stats", "stats", "Read", "Add up cost, tokens, latency and errors."),
    "export": Command("exporting", "export", "Read", "Write traces to a file, the newest first."),
    "ui": Command(
        "running",
        "ui",
        "Read",
        "Start MLflow's viewer on the store that traces go to, and print its address. Ctrl-C ends it.",
    ),
}
ROOT_OPTIONS: Final = {
    "--version": "Print the version.",
    "--install-completion": "Complete commands and options in this shell: bash, zsh or fish.",
    "--show-completion": "Print the script that does so.",
}


def load_command(name: str) -> Function | Mapping[str, Function]:
    """Return the function of a command, or the functions of its own commands by name."""
    found = COMMANDS[name]
    loaded: Function | Mapping[str, Function] = getattr(
        importlib.import_module(f".{found.module}", __package__), found.function
    )
    return loaded
