"""What a visible wrapper does to a program, one kind after the other: each must make the harness see a difference."""

from __future__ import annotations

import contextvars
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from harness import Tools

LEFT: Final = threading.Event()  # lets the thread end that a wrapper has left behind
OPENED: Final[list[Any]] = []  # what the wrappers leave open
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


class Answer:
    """What the program's function returns; pickle finds its class by name."""

    def __repr__(self) -> str:
        return "Answer()"


class _Proxy:
    """An answer that is something else than it says it is."""

    def __repr__(self) -> str:
        return "Answer()"


class _Unpicklable(Answer):
    __class__ = Answer  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


def function(a: int, b: int = 2) -> int:
    """The program's function."""
    if a < 0:
        raise ValueError(f"negative: {a}")
    return a + b


def returning(_: Tools) -> Any:
    return Answer()


def raising(_: Tools) -> Any:
    return function(-1)


def handing_out(_: Tools) -> Any:
    return function


def _log(found: Any) -> Any:
    logging.getLogger("visible").warning("here I am")
    return found


def _warn(found: Any) -> Any:
    warnings.warn("here I am", UserWarning, stacklevel=1)
    return found


def _print(found: Any) -> Any:
    print("here I am")
    return found


def _print_error(found: Any) -> Any:
    os.write(2, b"here I am\n")
    return found


def _leave_a_file(found: Any) -> Any:
    OPENED.append(Path(os.devnull).open())  # noqa: SIM115  # a test closes it
    return found


def _leave_a_thread(found: Any) -> Any:
    thread = threading.Thread(target=LEFT.wait, args=(60,), name="left behind", daemon=True)
    thread.start()
    OPENED.append(thread)
    return found


def _leave_a_child(found: Any) -> Any:
    OPENED.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
    return found


def _set_a_variable(found: Any) -> Any:
    variable.set("changed")
    return found


def _raise_another(error: BaseException) -> BaseException:
    return type("Other", (ValueError,), {})(*error.args)


def _change_the_text(error: BaseException) -> BaseException:
    error.args = ("something else",)
    return error


def _lose_the_frames(error: BaseException) -> BaseException:
    return error.with_traceback(None)


def _hide_the_cause(error: BaseException) -> BaseException:
    error.__cause__ = KeyError("ours")
    return error


def wrap_result(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a wrapper that changes what is returned."""
    return lambda fn: lambda tools: change(fn(tools))


def wrap_error(change: Callable[[BaseException], BaseException]) -> Callable[[Any], Any]:
    """Return a wrapper that changes what is raised."""

    def make(fn: Any) -> Any:
        def call(tools: Tools) -> Any:
            try:
                return fn(tools)
            except ValueError as error:
                changed = change(error)
            raise changed

        return call

    return make


# Each visible wrapper by its name: the scenario, the wrapper, and what the harness must find changed.
WRAPPERS: Final[dict[str, tuple[Any, Callable[[Any], Any], str]]] = {
    "result": (returning, wrap_result(lambda _: 7), "result"),
    "isinstance": (returning, wrap_result(lambda _: _Proxy()), "result"),
    "pickle": (returning, wrap_result(lambda _: _Unpicklable()), "pickle"),
    "signature": (handing_out, wrap_result(lambda _: lambda *args, **kwargs: function(*args, **kwargs)), "result"),  # noqa: PLW0108
    "exception's class": (raising, wrap_error(_raise_another), "error"),
    "exception's text": (raising, wrap_error(_change_the_text), "error"),
    "exception's frames": (raising, wrap_error(_lose_the_frames), "error"),
    "exception's cause": (raising, wrap_error(_hide_the_cause), "error"),
    "log": (returning, wrap_result(_log), "log"),
    "warning": (returning, wrap_result(_warn), "warnings"),
    "stdout": (returning, wrap_result(_print), "stdout"),
    "stderr": (returning, wrap_result(_print_error), "stderr"),
    "file": (returning, wrap_result(_leave_a_file), "state"),
    "thread": (returning, wrap_result(_leave_a_thread), "state"),
    "child": (returning, wrap_result(_leave_a_child), "state"),
    "context variable": (returning, wrap_result(_set_a_variable), "context"),
}
