"""What passes from the pipeline to a sink, and what a sink may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from ..context import Origin

Kind = Literal["mlflow", "otlp"]  # of a sink: mlflow takes parcels, otlp takes packed spans


@dataclass(frozen=True, slots=True)
class Parcel:
    """The spans of one local root, itself included, that ended in this process."""

    origin: Origin
    spans: Sequence[ReadableSpan]
    root_id: int  # of the span whose parent is absent, or in another process; it may have gone in an earlier parcel
    whole: bool  # False where more of the same root's spans may follow, or came before
    number: int = 0  # of its own in its process
    stored: Sequence[bytes] = ()  # each of its spans as OTLP, in the same order; empty where that is not at hand


class Packed(NamedTuple):
    """One span as OTLP's messages, each without what the next one holds."""

    resource: bytes  # a ResourceSpans
    scope: bytes  # a ScopeSpans
    span: bytes  # a Span
    changed: bool = False  # where the span itself could not be said, or was too large


@dataclass(frozen=True, slots=True)
class Refused:
    """What its backend will not take. *keep*: not from us, not now; it stays for a later process or drain."""

    parcel: Parcel | Packed
    reason: str  # one line, for a person
    keep: bool = False


class Away(Exception):  # noqa: N818  # a state of the backend, not a mistake
    """The backend cannot take anything now; the same parcels are worth another try after *retry_after* seconds."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class Sink(Protocol):
    """Takes parcels, or packed spans, on a thread of its own; sending one twice must be the same as sending it once."""

    @property
    def exit_grace(self) -> float:
        """The most seconds that a process's end may wait for it."""
        ...

    @property
    def local(self) -> bool:
        """Whether it writes to a database itself, which a fork must not interrupt."""
        ...

    @property
    def at_once(self) -> int:
        """How many times it may be sending at once, never parts of the same trace."""
        ...

    def prepare(self) -> None:
        """Import what sending needs; no fork happens meanwhile."""
        ...

    def send(self, parcels: Sequence[Any]) -> Sequence[Refused]:
        """Store all of them; return those that are not stored. Raise Away to be asked again with all of them."""
        ...

    def close(self) -> None:
        """Give back connections; nothing is sent after it."""
        ...
