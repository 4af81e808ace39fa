"""Guards: blocks that keep the errors of our own code out of the caller's program, and log each of them once."""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, TracebackType
from typing import Any

from ._bounded import BoundedDict

log = logging.getLogger("mlspan")
_logged_lines: BoundedDict[tuple[str, object], None] = BoundedDict(1000)  # by template and place

swallowed_errors: Counter[str] = Counter()  # number of our own errors that reached nobody, by what failed

REDACTION_FAILED = "mlspan: redact raised"  # starts a line that holds no user text, so the filter below lets it through


class _RedactionFilter(logging.Filter):
    """Logging filter that passes every line of ours through the user's ``redact``, as errors quote user data."""

    redact: Callable[[str], str] | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message and the traceback of *record* by redacted text; let every record through."""
        line = record.getMessage()
        if self.redact is not None and not line.startswith(REDACTION_FAILED):
            if record.exc_info:
                line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.msg, record.args, record.exc_info, record.exc_text = self.redact(line), None, None, None
        return True


redaction_filter = _RedactionFilter()
log.addFilter(redaction_filter)


def warn_once(line: str, *args: object, place: object = None, error: BaseException | None = None) -> None:
    """Log *line* as a warning, once per process and *place*; *args* fill its placeholders as in ``logging``.

    Lines of one template are the same whatever *args* say, as they may quote ids and messages of a server. A *place*
    tells apart what is worth a line of its own: a path, a receiver, a setting. It has to be hashable. *error* adds its
    traceback.
    """
    key = (line, place)
    if key not in _logged_lines:
        _logged_lines[key] = None
        log.warning(line, *args, exc_info=error)


def swallow_error(place: str, error: BaseException) -> bool:
    """Log *error* once and return True, or return False if the caller has to let it escape.

    Errors escape that are no ``Exception`` (a keyboard interrupt, a cancellation), what a signal handler has raised
    (a time limit), and all errors under ``MLSPAN_STRICT=1``. *place* says in the log line what failed, such as
    ``"starting a span"``.
    """
    if not isinstance(error, Exception) or os.environ.get("MLSPAN_STRICT") == "1" or comes_from_signal_handler(error):
        return False
    swallowed_errors[place] += 1
    warn_once("mlspan: %s failed; your call is unaffected", place, place=place, error=error)
    return True


def comes_from_signal_handler(error: BaseException) -> bool:
    """Return whether a signal handler of the program has raised *error*, which only happened to interrupt our code."""
    if threading.current_thread() is not threading.main_thread():
        return False  # handlers run on the main thread
    handlers = {_find_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


def let_handler_through(error: BaseException) -> None:
    """Raise *error* again if a signal handler of the program has raised it, where our code falls back on an error."""
    if comes_from_signal_handler(error):
        raise error


def _find_code(handler: Any) -> CodeType | None:
    """Return the code of a function, method, partial or callable object; None for what is not written in Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    for function in (handler, getattr(handler, "__func__", None), vars(type(handler)).get("__call__")):
        if isinstance(code := getattr(function, "__code__", None), CodeType):
            return code
    return None


class guard:  # noqa: N801  # it is used as a statement: with guard("starting a span"):
    """Context manager that swallows any ``Exception`` raised inside its block, and logs it once per place.

    Under ``MLSPAN_STRICT=1`` (every test run) the error escapes instead, so that a test suite cannot be green while
    our code fails. Errors that are no ``Exception`` (a keyboard interrupt, a cancellation) always escape.

    Only our own code belongs inside the block, never the user's function. An instance may be used many times.

    Args:
        place: what the block does, for the log line: ``"starting a span"``.

    Attributes:
        error: the error that was swallowed last, or None.
    """

    __slots__ = ("error", "place")

    def __init__(self, place: str) -> None:
        self.place = place
        self.error: BaseException | None = None

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not swallow_error(self.place, error):
            return False
        self.error = error
        return True


@contextmanager
def quiet_loggers(level: int, *names: str) -> Iterator[None]:
    """Raise the loggers called *names* to *level* inside the block, and restore their levels at its end."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)
