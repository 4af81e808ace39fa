"""The command line: finds the command that is named, reads its options, runs it, and says what has gone wrong."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

from .._version import __version__
from . import completion
from .arguments import (
    Function,
    Option,
    Parameter,
    UsageError,
    find_named,
    make_unknown_command,
    parse_arguments,
    read_parameters,
)
from .commands import COMMANDS, ROOT_OPTIONS, load_command
from .common import (
    CommandFailure,
    ExperimentOption,
    TrackingUriOption,
    is_verbose,
    print_error,
    print_note,
    set_verbose,
    write_line,
)
from .help_text import render_command_help, render_root_help

_HELP: Final = frozenset({"-h", "--help"})
_VERBOSE: Final = frozenset({"-v", "--verbose"})
_INTERRUPTED: Final = 130  # the exit code of a program that Ctrl-C has ended
_BROKEN_PIPE: Final = 141


def run_app() -> None:
    """Run the command that the process's arguments name, and exit."""
    if (typed := os.environ.get(completion.WORDS_VARIABLE)) is not None:
        write_line("\n".join(completion.suggest_words(typed)))
        return
    sys.exit(run_arguments(sys.argv[1:]))


def run_arguments(given: Sequence[str]) -> int:
    """Run the command that *given* names, and return its exit code."""
    set_verbose(False)
    name = ""
    try:
        leading, name, following = _split_arguments(given)
        if name not in COMMANDS:
            return _run_without_command(leading, name)
        return _run_command(name, leading, following)
    except UsageError as error:
        print_error(f"{error} (see: {' '.join(filter(None, ('mlspan', name if name in COMMANDS else '', '--help')))})")
        return 2
    except CommandFailure as failure:
        if is_verbose() and failure.__cause__ is not None:
            traceback.print_exception(failure.__cause__)
        print_error(str(failure))
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # what reads our output has ended: | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1


def _read_shared_options(tracking_uri: TrackingUriOption = None, experiment: ExperimentOption = None) -> None:
    """Stand for the options that may be before the command."""


def _read_verbosity(verbose: Annotated[bool, Option("-v", "--verbose")] = False) -> None:
    """Stand for the option that every command takes."""


def _split_arguments(given: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Return the options before the command, its name (none if none is there), and what follows it.

    Raises:
        UsageError: if an option before the command is not known.
    """
    shared = find_named(read_parameters(_read_shared_options))
    at = 0
    while at < len(given) and given[at].startswith("-") and given[at] != "-":
        name, has_value, _ = given[at].partition("=")
        if name in ROOT_OPTIONS or name in _HELP:
            return list(given[at:]), "", []
        if name not in shared and name not in _VERBOSE:
            elsewhere = [command for command in COMMANDS if command in given]
            hint = f"; options of {elsewhere[0]} stand behind it" if elsewhere else ""
            raise UsageError(f"there is no option {name} before the command{hint}")
        at += 2 if name in shared and not has_value else 1
    return list(given[:at]), given[at] if at < len(given) else "", list(given[at + 1 :])


def _run_without_command(leading: list[str], name: str) -> int:
    """Run what needs no command: the help, the version, the completion."""
    if name:
        raise make_unknown_command(name, COMMANDS)
    option = leading[0].partition("=")[0] if leading else "--help"
    if option == "--version":
        write_line(f"mlspan {__version__}")
    elif option in {"--install-completion", "--show-completion"}:
        _set_up_completion(option, [*leading[0].split("=", 1)[1:], *leading[1:]])
    else:
        panels: dict[str, dict[str, str]] = {}
        for command, found in COMMANDS.items():
            panels.setdefault(found.panel, {})[command] = found.summary
        _write_lines(render_root_help(panels, ROOT_OPTIONS.items()))
    return 0


def _set_up_completion(option: str, named: Sequence[str]) -> None:
    """Print or install the script of the shell that is named, or else of the user's."""
    shell = named[0] if named else completion.find_shell()
    if shell not in completion.SCRIPTS:
        raise UsageError(f"{option} takes bash, zsh or fish, not {shell!r}")
    if option == "--show-completion":
        write_line(completion.SCRIPTS[shell].rstrip())
        return
    try:
        path = completion.install_script(shell)
    except OSError as error:
        raise CommandFailure(f"cannot write {error.filename}: {error.strerror}") from error
    print_note(f"wrote {path}; shells that are started from now on complete mlspan's commands")


def _run_command(name: str, leading: list[str], following: list[str]) -> int:
    """Run one command with the options that stand before and behind it."""
    found = load_command(name)
    if isinstance(found, Mapping):
        inner = next((word for word in following if word in found), "")
        if not inner:
            unknown = [word for word in following if not word.startswith("-")]
            if unknown:
                raise make_unknown_command(f"{name} {unknown[0]}", [f"{name} {one}" for one in found])
            _write_lines(render_root_help({f"mlspan {name}": _summarize(found)}, ()))
            return 0
        following.remove(inner)
        name, found = f"{name} {inner}", found[inner]
    parameters = read_parameters(found)
    own = _cut_own_arguments(following, any(one.base is list for one in parameters), find_named(parameters))
    if _HELP & set(own):
        _write_lines(render_command_help(name, found))
        return 0
    values = parse_arguments((*parameters, *read_parameters(_read_verbosity)), [*leading, *following])
    set_verbose(values.pop("verbose"))
    found(**values)
    return 0


def _summarize(found: Mapping[str, Function]) -> dict[str, str]:
    return {name: (one.__doc__ or "").partition("\n")[0] for name, one in found.items()}


def _cut_own_arguments(following: list[str], passes_on: bool, named: Mapping[str, Parameter]) -> list[str]:
    """Return the part of what follows a command that is for the command: if it *passes_on*, up to a script's name."""
    at = 0
    while at < len(following) and following[at] != "--":
        word = following[at]
        if passes_on and not word.startswith("-"):
            break
        option = named.get(word)
        at += 2 if option is not None and not option.is_switch else 1
    return following[:at]


def _write_lines(lines: Iterable[str]) -> None:
    write_line("\n".join(lines))
