"""Suppression: whether the caller's context says that nothing is to be recorded, and which library says so."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Final

from opentelemetry import context as otel

from ..._guard import warn_once
from ..otel.compat import SUPPRESSION_KEY

_MAX_SEARCHES: Final = 100  # suppressed calls, the first of a process, for which the stack is looked through
_MAX_FRAMES: Final = 200
_LIBRARY_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
# What to tell a library that is known to suppress others.
_REMEDIES: Final = {"logfire": "; pass suppress_other_instrumentation=False to logfire.instrument_... to have both"}

_searches = 0


def is_suppressed(around: otel.Context | None = None) -> bool:
    """Return whether the current context, or *around*, is inside OpenTelemetry's ``suppress_instrumentation``.

    If a library has done that, and not the application, one warning names it.
    """
    if around is None:
        around = otel.get_current()
    found = around.get(SUPPRESSION_KEY)
    if not found:
        return False
    if isinstance(found, RecordingCheck):
        found.would_record = True
    else:
        _report_suppressor()
    return True


class RecordingCheck:
    """Result of a block in which nothing is recorded: whether something would have been."""

    def __init__(self) -> None:
        self.would_record = False


@contextmanager
def suppress_and_check(check: RecordingCheck) -> Iterator[None]:
    """Suppress instrumentation inside the block, and let *check* tell whether something would have been recorded."""
    token = otel.attach(otel.set_value(SUPPRESSION_KEY, check))
    try:
        yield
    finally:
        otel.detach(token)


def _report_suppressor() -> None:
    """Log once that a library on the stack suppresses what others record of the calls that it traces itself.

    A context does not tell who has attached it. The function that did so is still running around the call, and its
    code names the suppression.
    """
    global _searches
    if _searches >= _MAX_SEARCHES:
        return
    _searches += 1
    if (library := _find_suppressor(inspect.currentframe())) is not None:
        warn_once(
            "mlspan: %s suppresses other instrumentations around the calls that it traces, so mlspan does not record "
            "these%s",
            library,
            _REMEDIES.get(library, ""),
            place=library,
        )


def _find_suppressor(frame: FrameType | None) -> str | None:
    """Return the package of the innermost function of a library, from *frame* outwards, that names suppression."""
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return None
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package != "mlspan" and _is_library(frame.f_code) and _names_suppression(frame.f_code):
            return package
        frame = frame.f_back
    return None


def _is_library(code: CodeType) -> bool:
    """Return whether *code* was installed: an application that suppresses tracing need not be told."""
    return not _LIBRARY_FOLDERS.isdisjoint(PurePath(code.co_filename).parts)


def _names_suppression(code: CodeType) -> bool:
    """Return whether *code* uses a name such as ``suppress_instrumentation``; contextlib's ``suppress`` is none."""
    texts = (each for each in code.co_consts if isinstance(each, str) and len(each) < 100)  # no prose
    names = (name.lower() for name in (*code.co_names, *code.co_freevars, *texts))
    return any("suppress" in name and ("instrument" in name or "trac" in name) for name in names)
