"""The help of the command line as plain text, in bold and dim where a terminal shows it."""

from __future__ import annotations

import inspect
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from .arguments import Argument, Function, Parameter, read_parameters
from .common import BOLD, DIM, style_text

_WIDEST: Final = 100  # columns: longer lines are hard to read
_INDENT: Final = "  "
_EVERYWHERE: Final = (
    ("-v, --verbose", "Say on standard error what is read and how long it takes, and show the traceback of an error."),
    ("-h, --help", "Show this help."),
)


def find_width() -> int:
    """Return the columns of the terminal, at most 100."""
    if (wanted := os.environ.get("COLUMNS", "")).isdigit() and int(wanted) > 0:
        return min(int(wanted), _WIDEST)
    try:
        return min(os.get_terminal_size(sys.stdout.fileno()).columns or _WIDEST, _WIDEST)
    except (OSError, ValueError):
        return _WIDEST


def render_root_help(panels: Mapping[str, Mapping[str, str]], options: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of the help of ``mlspan``. *panels* have the commands and their summaries by heading."""
    yield f"{style_text('Usage:', BOLD, sys.stdout)} mlspan COMMAND [OPTIONS]"
    yield ""
    yield from textwrap.wrap("Traces of LLM programs: record them, read them, see what they cost.", find_width())
    for heading, commands in panels.items():
        yield from _render_section(heading, commands.items())
    yield from _render_section("Options", (*options, *_EVERYWHERE))
    yield ""
    yield from _render_examples(["mlspan demo", "mlspan list --since 1h --status error", "mlspan stats --since 1w"])
    yield ""
    yield style_text("mlspan COMMAND --help has more about each.", DIM, sys.stdout)


def render_command_help(name: str, function: Function) -> Iterator[str]:
    """Yield the lines of the help of one command: its docstring, examples and options."""
    parameters = read_parameters(function)
    places = "".join(f" {_frame_place(one)}" for one in parameters if not one.names)
    yield from textwrap.wrap(f"Usage: mlspan {name} [OPTIONS]{places}", find_width(), subsequent_indent=_INDENT)
    text, _, examples = (inspect.getdoc(function) or "").partition("Examples:\n")
    for paragraph in text.strip().split("\n\n"):
        yield ""
        yield from textwrap.wrap(" ".join(paragraph.split()), find_width())
    if examples:
        yield ""
        yield from _render_examples([line.strip() for line in examples.splitlines() if line.strip()])
    own = [one for one in parameters if one.names and not one.is_global]
    shared = [one for one in parameters if one.is_global]
    arguments = [one for one in parameters if not one.names and one.says.help]
    for heading, shown in (("Arguments", arguments), ("Options", own)):
        yield from _render_section(heading, [(_format_names(one), _format_help(one)) for one in shown])
    rows = [(_format_names(one), _format_help(one)) for one in shared]
    yield from _render_section("Options of all commands", (*rows, *_EVERYWHERE))


def _frame_place(one: Parameter) -> str:
    must = one.default is inspect.Parameter.empty
    return str(one.says.metavar) if must else f"[{one.says.metavar}]"


def _format_names(one: Parameter) -> str:
    """Return the names of an option, and what stands for its value."""
    if isinstance(one.says, Argument):
        return one.says.metavar
    names = ", ".join(sorted(one.names, key=len)) + "".join(f" / {off}" for off in one.off_names)
    if one.is_switch:
        return names
    value = one.says.metavar or ("|".join(one.choices) if one.choices else "N" if one.base in {int, float} else "TEXT")
    return f"{names} {value}"


def _format_help(one: Parameter) -> str:
    """Return what an option does, and what holds if it is not given."""
    default = one.says.default
    plain = one.default is not None and one.default is not inspect.Parameter.empty and not one.is_switch
    if not default and plain and one.default != []:
        default = f"{one.default:g}" if isinstance(one.default, float) else str(one.default)
    return f"{one.says.help} Default: {default}." if default else one.says.help


def _render_section(heading: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a heading and two columns; nothing without rows."""
    rows, width = list(rows), find_width()
    if not rows:
        return
    column = max((len(first) for first, _ in rows if len(first) <= width // 3), default=12) + 4
    yield ""
    yield style_text(f"{heading}:", BOLD, sys.stdout)
    for first, second in rows:
        lines = textwrap.wrap(second, max(20, width - column)) or [""]
        if len(first) + 4 > column:
            yield from textwrap.wrap(first, width, initial_indent=_INDENT, subsequent_indent=_INDENT * 2)
        else:
            yield f"{_INDENT}{first:<{column - 2}}{lines.pop(0)}".rstrip()
        yield from (" " * column + line for line in lines)


def _render_examples(examples: Sequence[str]) -> Iterator[str]:
    yield style_text("Examples:", BOLD, sys.stdout)
    for example in examples:
        yield from textwrap.wrap(
            example, find_width(), initial_indent=_INDENT, subsequent_indent=_INDENT * 2, break_on_hyphens=False
        )
