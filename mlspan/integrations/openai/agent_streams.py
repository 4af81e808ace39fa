"""Streamed runs of the Agents SDK, which go on whether or not somebody reads them.

At its end the event loop cancels such a run. If its reader waited for an event, the reader is cancelled too, or out of
time, and the run has failed. If not, nobody reads it any more, and it was left.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from weakref import WeakSet

from ...hooks.patching import Patch, replace_function
from ...tracing.operations.iterators import start_generator

_unread: Final[WeakSet[asyncio.Task[object]]] = WeakSet()  # tasks of runs whose reader works on an event, or has left
_END: Final = object()  # of a stream


def is_unread_run() -> bool:
    """Return whether the running task is that of a streamed run, and nobody waits for its next event."""
    try:
        return asyncio.current_task() in _unread
    except RuntimeError:  # no loop is running
        return False


def _wrap_stream_events(original: Callable[..., Any]) -> Callable[..., object]:
    """Wrap ``stream_events`` of a run's result."""

    @functools.wraps(original)
    async def stream_events(result: Any, *args: Any, **kwargs: Any) -> AsyncIterator[object]:
        events, task = original(result, *args, **kwargs), getattr(result, "run_loop_task", None)
        event = await start_generator(events, _END)
        while event is not _END:
            if task is not None:
                _unread.add(task)
            try:
                yield event
            except BaseException:  # the reader has left; what a read has raised needs no close, and may not take one
                await events.aclose()
                raise
            if task is not None:
                _unread.discard(task)
            event = await anext(events, _END)

    return stream_events


STREAM_PATCH: Final = Patch(
    "agents.result:RunResultStreaming.stream_events",
    functools.partial(replace_function, make=_wrap_stream_events),
    "that a streamed run which nobody reads any more is no failure where the event loop ends",
)
