"""The queue between the caller's threads and the export worker, and the types of items that it carries.

The queue itself has no bound. ``ExportProcessor.on_start`` and ``on_end`` enforce it: they look at the length and the
bytes of content before they put a span. A start that finds no room is put with its end; an end that finds none is
dropped and counted. Before it comes to that, the content of spans goes to a file, see ``spool/spill.py``.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from .wakes import Wake

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from ..operations.call_context import TraceOrigin
    from .flush_request import FlushRequest
    from .otlp.codec import UnencodableSpan
    from .spool.spill import SpilledSpan
    from .types import EncodedSpan

# Spans gather for a moment, so that the worker does not interrupt the caller's thread for each one. In between it looks
# whether many starts and ends wait, once only, as each look takes the interpreter from the caller's thread.
_GATHER_TURNS: Final = (0.02, 0.08)  # seconds
_GATHER_EVENTS: Final = 1000


class SpanStarted(tuple["ReadableSpan", "TraceOrigin"]):
    """A span has started: the span, and the origin that its caller gives it.

    It is made on the caller's thread, where a NamedTuple would cost twice as much, and a dataclass more.
    """

    __slots__ = ()


class LoggedSpan(NamedTuple):
    """A span has ended, and the write-ahead log has it, or has failed to take it."""

    span: ReadableSpan  # redacted, unless the log has failed
    encoded: EncodedSpan | UnencodableSpan | None = None  # None: the log has failed
    log_position: int | None = None
    log_error: Exception | None = None


class LateSpan(NamedTuple):
    """A span has ended whose start found no room in the queue. It brings the origin that its start would have brought.

    Its trace is found by its parent, or by a child that has waited for it.
    """

    ended: ReadableSpan | LoggedSpan | SpilledSpan
    origin: TraceOrigin


# A span that is not in the write-ahead log is queued unwrapped: a wrapper costs the caller a tenth of a microsecond.
SpanEnded: TypeAlias = "ReadableSpan | LoggedSpan | SpilledSpan | LateSpan"
QueueItem: TypeAlias = "SpanStarted | SpanEnded | FlushRequest"


class SpanQueue(SimpleQueue["QueueItem"]):
    """A queue of starts, ends and flush requests.

    Any thread may put items, also inside a finalizer: ``put`` takes no lock of ours and may be re-entered. One thread
    takes them.
    """

    __slots__ = ("_hurry", "bytes_in", "bytes_out")

    def __init__(self) -> None:
        super().__init__()
        self._hurry = Wake()
        # Bytes of content that were put and taken. The first is approximate, as threads count without a lock; the
        # thread that takes sets both right whenever the queue is empty.
        self.bytes_in = self.bytes_out = 0

    def put_flush(self, request: FlushRequest) -> None:
        """Put a flush request and end :meth:`wait_for_more`."""
        self.put(request)
        self._hurry.set()

    def take_next(self, timeout: float) -> QueueItem | None:
        """Return the next item, or None if none comes within *timeout* seconds."""
        try:
            return self.get_nowait()
        except Empty:
            self.bytes_out = self.bytes_in
        try:
            return self.get(timeout=timeout) if timeout else None
        except Empty:
            return None

    def wait_for_more(self) -> None:
        """Wait a moment for more spans to arrive, unless many wait already or somebody waits for a flush."""
        for seconds in _GATHER_TURNS:
            if self._hurry.wait(seconds) or self.qsize() > _GATHER_EVENTS:
                return

    def stop_hurrying(self) -> None:
        """Note that the flush request has been taken."""
        self._hurry.clear()
