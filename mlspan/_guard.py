"""Keep our bugs out of the caller's program."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

log = logging.getLogger("mlspan")
_told: set[str] = set()


FAILED = "mlspan: redact raised"  # a line that holds no more than that, and has to be read


class _Redacted(logging.Filter):
    """No line of ours says what ``redact`` covers: errors quote what they were about."""

    redact: Callable[[str], str] | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        if self.redact is not None and not said.startswith(FAILED):
            if record.exc_info:
                said += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.msg, record.args, record.exc_info, record.exc_text = self.redact(said), None, None, None
        return True


redacted = _Redacted()
log.addFilter(redacted)


def tell_once(line: str, *args: object, error: BaseException | None = None) -> None:
    """Log *line* as a warning the first time that it is told in this process; *args* fill it as logging does."""
    told = line % args if args else line
    if told not in _told:
        _told.add(told)
        log.warning(told, exc_info=error)


def swallow(place: str, error: BaseException) -> bool:
    """What guard does with an error: tell it once, or answer False for it to be raised again."""
    if not isinstance(error, Exception) or os.environ.get("MLSPAN_STRICT") == "1":
        return False
    tell_once("mlspan: %s failed; your call is unaffected", place, error=error)
    return True


class guard:  # noqa: N801  # reads as the statement that it is
    """Swallow whatever our own code raises inside the block, and say so once per place.

    Under ``MLSPAN_STRICT=1`` (every test run) the error escapes instead, so that a swallowed bug cannot hide behind
    a green suite. What is not an ``Exception`` (a keyboard interrupt, a cancellation) always escapes.
    """

    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return error is not None and swallow(self.place, error)


@contextmanager
def quiet(level: int, *names: str) -> Iterator[None]:
    """Have the loggers of these *names* tell nothing below *level* inside the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)
