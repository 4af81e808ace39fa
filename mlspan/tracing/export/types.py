"""Types that pass between the export processor and a sink: a trace segment, an encoded span, and a sink's answers.

A *trace segment* is the set of spans of one local root (a span whose parent is absent or in another process).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from ..operations.call_context import TraceOrigin
    from .sending.executor import BoundedExecutor

SinkKind = Literal["mlflow", "otlp"]  # the mlflow sink takes trace segments, the otlp sink takes encoded spans


class TraceSegment(NamedTuple):
    """The spans of one local root that ended in this process, the root included.

    It is a NamedTuple, as each trace copies it twice, and a copy of a dataclass takes five times as long.
    """

    origin: TraceOrigin
    spans: Sequence[ReadableSpan]
    root_id: int  # the id of the local root's span, which may have been sent in an earlier segment
    whole: bool  # False if further spans of the same root were sent before or may follow
    number: int = 0  # unique within the process
    parent_missing: bool = False  # True if the root's parent belongs to this process and is never sent
    stored: Sequence[bytes] = ()  # the spans as OTLP bytes, in the same order; empty if they are not in memory


class EncodedSpan(NamedTuple):
    """One span as three OTLP messages, none of which contains the next."""

    resource: bytes  # a ResourceSpans
    scope: bytes  # a ScopeSpans
    span: bytes  # a Span
    changed: bool = False  # True if the span could not be encoded as it was, or was too large and has been cut


@dataclass(frozen=True, slots=True)
class Refusal:
    """An item that the backend refuses.

    With *keep*, it stays in the spool for a later process or for ``mlspan drain``. Without an *item*, the backend has
    rejected so many *spans* of those that it was given, and does not say which: they are lost.
    """

    item: TraceSegment | EncodedSpan | None
    reason: str  # one line for a person to read
    keep: bool = False
    spans: int = 0


class BackendUnavailable(Exception):  # noqa: N818  # a state of the backend, not a mistake
    """The backend cannot take anything at present.

    The caller may send the same items again after *retry_after* seconds. *may_be_item*: it has answered, and the cause
    may be one of the items. *may_be_size*: it has closed the connection, and the cause may be the size of the request.
    *too_slow*: it has not answered in time. ``taken`` holds the items that it has taken before it failed.
    """

    def __init__(
        self,
        reason: str,
        retry_after: float | None = None,
        *,
        may_be_item: bool = False,
        may_be_size: bool = False,
        too_slow: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after
        self.may_be_item, self.may_be_size = may_be_item or may_be_size, may_be_size
        self.too_slow = too_slow
        self.taken: Sequence[Any] = ()


class Sink(Protocol):
    """A destination for trace segments or encoded spans.

    Sending an item twice must have the same effect as sending it once.

    Sinks run on threads of mlspan's own, never on a caller's.
    """

    @property
    def exit_grace(self) -> float:
        """Return the most seconds that the end of the process may wait for this sink."""
        ...

    @property
    def local(self) -> bool:
        """Return True if the sink writes to a database in this process, which a fork must not interrupt."""
        ...

    @property
    def executor(self) -> BoundedExecutor:
        """Return the threads on which several calls of ``send``, and what each does at once, are run."""
        ...

    @property
    def at_once(self) -> int:
        """Return how many calls of ``send`` may run at once. Parts of one trace are never sent at once."""
        ...

    def prepare(self) -> None:
        """Import what sending needs. Forks are delayed while this runs."""
        ...

    def send(self, items: Sequence[Any]) -> Sequence[Refusal]:
        """Store all items and return those that were refused.

        Raise BackendUnavailable to be called again with all of them.
        """
        ...

    def close(self) -> None:
        """Close the connections. Nothing is sent afterwards."""
        ...
