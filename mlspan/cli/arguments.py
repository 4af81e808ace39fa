"""The options and arguments of a command, read from its function's signature, and the parsing of what a person types.

The standard library's parser cannot leave what follows a script's name to that script, and the common packages for this
take longer to import than a command may take altogether.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

Function = Callable[..., object]


class UsageError(Exception):
    """A command was not called as it should be. It ends with exit code 2; the message is one line."""


class Option:
    """The description of an option, in the annotation of a function's parameter.

    Args:
        names: as typed, ``--run``, ``-r``; ``--write/--no-write`` for a switch that is on. Default: from the parameter.
        metavar: what stands for the value in the help.
        help: one or two sentences.
        default: what holds if the option is not given, as text, where the function's default does not tell.
        lowest: the least number; *highest*: the greatest one.
        is_global: whether the option may also stand before the command, and is listed apart in the help.
    """

    def __init__(
        self,
        *names: str,
        metavar: str = "",
        help: str = "",
        default: str = "",
        lowest: float | None = None,
        highest: float | None = None,
        is_global: bool = False,
    ) -> None:
        self.names, self.metavar, self.help, self.default = names, metavar, help, default
        self.lowest, self.highest, self.is_global = lowest, highest, is_global


class Argument:
    """The description of an argument that has no name, in the annotation of a function's parameter.

    A list of strings takes all that is left, options included.
    """

    def __init__(self, *, metavar: str, help: str = "", default: str = "") -> None:
        self.metavar, self.help, self.default = metavar, help, default


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command's function, with what a person types for it."""

    name: str
    says: Option | Argument
    base: type
    choices: tuple[str, ...]
    default: Any  # inspect.Parameter.empty if it must be given
    names: tuple[str, ...] = ()
    off_names: tuple[str, ...] = ()  # of a switch: those that turn it off

    @property
    def is_switch(self) -> bool:
        """Return whether it takes no value."""
        return self.base is bool

    @property
    def is_global(self) -> bool:
        """Return whether it may also stand before the command."""
        return isinstance(self.says, Option) and self.says.is_global

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Return the least and the greatest number that it takes; None for no bound."""
        return (self.says.lowest, self.says.highest) if isinstance(self.says, Option) else (None, None)

    @property
    def display_name(self) -> str:
        """Return what messages call it: its longest name, or what stands for it in the help."""
        return max(self.names, key=len) if self.names else str(self.says.metavar)


@cache
def read_parameters(function: Function) -> tuple[Parameter, ...]:
    """Return the parameters of a command's function that a person can give, in their order."""
    hints = get_type_hints(function, include_extras=True)
    found = inspect.signature(function).parameters
    return tuple(
        _read_parameter(name, hints[name], one.default)
        for name, one in found.items()
        if any(isinstance(extra, (Option, Argument)) for extra in getattr(hints[name], "__metadata__", ()))
    )


def _read_parameter(name: str, hint: Any, default: Any) -> Parameter:
    """Return one parameter from its annotation: ``Annotated[str | None, Option(...)]``."""
    says = next(extra for extra in hint.__metadata__ if isinstance(extra, (Option, Argument)))
    base, choices = _find_base(hint.__origin__)
    if isinstance(says, Argument):
        return Parameter(name, says, base, choices, default)
    names = says.names or (f"--{name}/--no-{name}" if base is bool and default else f"--{name}",)
    on = tuple(one.partition("/")[0] for one in names)
    off = tuple(one.partition("/")[2] for one in names if "/" in one)
    return Parameter(name, says, base, choices, default, on, off)


def _find_base(hint: Any) -> tuple[type, tuple[str, ...]]:
    """Return the type of one value, and the words that it may be; ``X | None`` is X."""
    options = [one for one in get_args(hint) if one is not type(None)]
    if get_origin(hint) is Literal:
        return str, tuple(map(str, options))
    if options and get_origin(hint) is not list:
        return _find_base(options[0])
    return (list if get_origin(hint) is list else hint), ()


def find_named(parameters: Iterable[Parameter]) -> dict[str, Parameter]:
    """Return the options by each of their names."""
    return {name: one for one in parameters for name in (*one.names, *one.off_names)}


def parse_arguments(parameters: Sequence[Parameter], given: Sequence[str]) -> dict[str, Any]:
    """Return the values of a command's function by parameter, from what was typed after the command.

    Raises:
        UsageError: if an option or argument is unknown, missing, or has a value that it does not take.
    """
    found: dict[str, Any] = {one.name: one.default for one in parameters}
    named, places = find_named(parameters), [one for one in parameters if not one.names]
    waiting = list(given)
    while waiting:
        typed = waiting.pop(0)
        if typed == "--":
            _take_values(places, waiting, found)
            break
        if _is_option(typed):
            _take_option(typed, waiting, named, found)
        elif places and len(places) > 1 and places[1].base is list:  # what follows is not ours
            _take_values(places, [typed, *waiting], found)
            break
        else:
            _take_values(places[:1], [typed], found)
            places = places[1:]
    if missing := [one for one in parameters if found[one.name] is inspect.Parameter.empty]:
        raise UsageError(f"{missing[0].display_name} is missing")
    return found


def _is_option(typed: str) -> bool:
    """Return whether *typed* names an option; ``-`` alone is standard input, ``-5`` a number."""
    return typed.startswith("-") and typed != "-" and not re.fullmatch(r"-\d+(\.\d+)?", typed)


def _take_option(typed: str, waiting: list[str], named: dict[str, Parameter], found: dict[str, Any]) -> None:
    """Store the value of one option, taking it from *waiting* where it stands apart."""
    name, has_value, value = typed.partition("=")
    if name not in named and not name.startswith("--"):  # -n5, and switches in a row: -vh
        name, value = typed[:2], typed[2:]
        if value and name in named and named[name].is_switch:
            waiting.insert(0, f"-{value}")
            value = ""
        has_value = value
    if (one := named.get(name)) is None:
        raise UsageError(f"there is no option {name}{_suggest(name, named)}")
    if one.is_switch:
        if has_value:
            raise UsageError(f"{name} takes no value")
        found[one.name] = name not in one.off_names
        return
    if not has_value:
        if not waiting or (waiting[0] in named):
            raise UsageError(f"{name} needs a value: {_describe_value(one)}")
        value = waiting.pop(0)
    found[one.name] = _convert(one, value)


def _take_values(places: Sequence[Parameter], values: Sequence[str], found: dict[str, Any]) -> None:
    """Store values that have no name in the *places* that are left."""
    for at, value in enumerate(values):
        if at >= len(places):
            raise UsageError(f"unexpected argument: {value}")
        if places[at].base is list:
            found[places[at].name] = list(values[at:])
            return
        found[places[at].name] = _convert(places[at], value)


def _suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that names the known name which is most like *name*; nothing if none is like it."""
    similar = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {similar[0]}?" if similar else ""


def make_unknown_command(name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a command that there is not."""
    return UsageError(f"there is no command {name}{_suggest(name, known)}")


def _convert(one: Parameter, text: str) -> Any:
    """Return the value that *text* stands for.

    Raises:
        UsageError: if it is none that the option takes.
    """
    wrong = UsageError(f"{one.display_name} takes {_describe_value(one)}, not {text!r}")
    if one.choices:
        if text.lower() not in one.choices:
            raise wrong
        return text.lower()
    if one.base not in {int, float}:
        return Path(text) if one.base is Path else text
    try:
        number = one.base(text)
    except ValueError:
        raise wrong from None
    low, high = one.bounds
    if not (low is None or number >= low) or not (high is None or number <= high):
        raise wrong
    return number


_WORDS: Final = {int: "a whole number", float: "a number", Path: "a path", str: "text"}


def _describe_value(one: Parameter) -> str:
    """Return what an option takes: ``a whole number from 1 on``, ``cost, tokens or p95``."""
    if one.choices:
        return join_words(one.choices)
    low, high = one.bounds
    if low is not None and high is not None:
        return f"{_WORDS[one.base]} from {low:g} to {high:g}"
    if low is not None:
        return f"{_WORDS[one.base]} of at least {low:g}"
    return str(one.says.metavar or _WORDS.get(one.base, "text"))


def join_words(words: Sequence[str]) -> str:
    """Return words as ``a, b or c``."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
