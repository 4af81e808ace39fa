"""The open runs of LangChain, graphs and nodes included, and whoever reads their events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel

from ...hooks.run_registry import Run, RunRegistry
from ...tracing.operations.operation import Operation

if TYPE_CHECKING:
    from .langgraph_edges import GraphEdges


def make_run_key(run_id: object) -> object:
    """Return the key of a run: the UUID's integer, as the hash of a UUID is computed in slow Python code."""
    return getattr(run_id, "int", run_id)


class EventReader:
    """The reader of a run's events, as the context of the run holds it; it may have left, or been cancelled."""

    has_left = False
    error: BaseException | None = None


EVENT_READER_KEY: Final = otel.create_key("mlspan-langchain-reader")


class LangChainRun(Run):
    """A run of LangChain.

    Attributes:
        edges: those of a graph.
        interrupts: what the interrupts inside ask, by their ids; None if there are none.
        tells_tokens: whether the text of a streamed answer is reported token by token.
        stream: the stream of version 3 that the caller reads; the run ends when it is dropped.
        closed: whether the caller has closed that stream.
    """

    __slots__ = ("closed", "edges", "interrupts", "stream", "tells_tokens")

    def __init__(self, parent: object, operation: Operation | None = None) -> None:
        super().__init__(parent, operation)
        self.edges: GraphEdges | None = None
        self.interrupts: dict[object, object] | None = None
        self.tells_tokens = self.closed = False
        self.stream: object = None

    def is_left_by_reader(self) -> bool:
        """Return whether whoever read the run's stream or events has left early."""
        reader = None if self.operation is None else self.operation.context.get(EVENT_READER_KEY)
        return self.closed or (isinstance(reader, EventReader) and reader.has_left)


langchain_runs: Final = RunRegistry(LangChainRun)
