"""What passes from the pipeline to a sink, and what a sink may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from ..context import Origin


@dataclass(frozen=True, slots=True)
class Parcel:
    """The spans of one local root, itself included, that ended in this process."""

    origin: Origin
    spans: Sequence[ReadableSpan]
    root_id: int  # of the span whose parent is absent, or in another process; it may have gone in an earlier parcel
    whole: bool  # False where more of the same root's spans may follow, or came before


@dataclass(frozen=True, slots=True)
class Refused:
    """A parcel that its backend will never take."""

    parcel: Parcel
    reason: str  # one line, for a person


class Away(Exception):  # noqa: N818  # a state of the backend, not a mistake
    """The backend cannot take anything now; the same parcels are worth another try after *retry_after* seconds."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class Sink(Protocol):
    """Takes parcels on the pipeline's own thread; sending one twice must be the same as sending it once."""

    @property
    def exit_grace(self) -> float:
        """The most seconds that a process's end may wait for it."""
        ...

    def send(self, parcels: Sequence[Parcel]) -> Sequence[Refused]:
        """Store every parcel; return those that can never be stored. Raise Away to be asked again with all of them."""
        ...

    def close(self) -> None:
        """Give back connections; nothing is sent after it."""
        ...
