"""The open runs of LangChain, graphs and nodes included, and whoever reads their events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel

from ..._guard import guard
from ..._shape import get_count, get_fields
from ...hooks.run_registry import Run, RunRegistry
from ...tracing.operations.control_flow import is_generator_close
from ...tracing.operations.records import Chat
from .usage import read_langchain_usage

if TYPE_CHECKING:
    from .langgraph_edges import GraphEdges


def make_run_key(run_id: object) -> object:
    """Return the key of a run: the UUID's integer, as the hash of a UUID is computed in slow Python code."""
    return getattr(run_id, "int", run_id)


class RunReader:
    """The reader of a run's events, as the context of the run holds it; it may have left, or been cancelled.

    Attributes:
        outer: the reader of a run around this one.
        is_waiting: whether it waits for an event; if not, it works on one, or it has dropped the stream.
        error: the cancellation.
    """

    is_waiting = True
    has_left = False
    error: BaseException | None = None

    def __init__(self) -> None:
        outer = otel.get_value(RUN_READER_KEY)
        self.outer = outer if isinstance(outer, RunReader) else None

    def note_end(self, error: BaseException) -> None:
        """Note the exception that ends the reading: the reader has left, or is cancelled itself."""
        self.is_waiting = True
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if is_generator_close(error) or (is_cancelled and self.is_gone()):
            self.has_left = True
        elif is_cancelled:
            self.error = error

    def is_gone(self) -> bool:
        """Return whether this reader, or one around it, reads no further."""
        # A loop that ends tells what is cancelled before it closes streams.
        is_dropped = not self.is_waiting and _is_loop_ending()
        return self.has_left or is_dropped or (self.outer is not None and self.outer.is_gone())

    def is_within(self, reader: RunReader) -> bool:
        """Return whether this is *reader*, or reads inside of it."""
        return self is reader or (self.outer is not None and self.outer.is_within(reader))


def _is_loop_ending() -> bool:
    """Return whether each task of the running loop is being cancelled, as ``asyncio.run`` does at its end.

    The tasks in which LangChain tells of it are newer, and are not. Python 3.10 does not tell; there the answer is
    True, so that a program's end is never an error.
    """
    try:
        tasks: set[Any] = asyncio.all_tasks()
        return all(task.cancelling() or _is_callback(task.get_coro()) for task in tasks)
    except AttributeError:
        return True
    except RuntimeError:  # no loop is running
        return False


def _is_callback(coroutine: object) -> bool:
    """Return whether *coroutine* is one in which LangChain tells of a cancellation: its task is not cancelled."""
    return "CallbackManager" in getattr(coroutine, "__qualname__", "")


RUN_READER_KEY: Final = otel.create_key("mlspan-langchain-reader")


class LangChainRun(Run):
    """A run of LangChain.

    Attributes:
        edges: those of a graph.
        interrupts: what the interrupts inside ask, by their ids; None if there are none.
        tells_tokens: whether the text of a streamed answer is reported token by token.
        stream: the stream of version 3 that the caller reads; the run ends when it is dropped.
        closed: whether the caller has closed that stream.
        last_usage: what the last chunk has told of the tokens until then, if several chunks have; else None.
    """

    edges: GraphEdges | None = None
    interrupts: dict[object, object] | None = None
    tells_tokens = False
    closed = False
    stream: object = None
    last_usage: object = None
    _has_told_input = False

    def note_usage(self, usage: object) -> None:
        """Note the ``UsageMetadata`` of a chunk. LangChain adds them up, which is right if only one tells the input."""
        if get_count(get_fields(usage), "input_tokens"):
            self.last_usage = usage if self._has_told_input else None
            self._has_told_input = True

    def is_left_by_reader(self) -> bool:
        """Return whether whoever read the run's stream or events has left early."""
        reader = None if self.operation is None else self.operation.context.get(RUN_READER_KEY)
        return self.closed or (isinstance(reader, RunReader) and reader.is_gone())


langchain_runs: Final = RunRegistry(LangChainRun)


def observe_model_answer(id: object, answer: object) -> None:
    """Read a model's answer into the record of its run, with the tokens that its last chunk has told."""
    langchain_runs.observe_answer(id, answer)
    run = langchain_runs.find_run(id)
    if run is None or run.last_usage is None or run.operation is None:
        return
    with guard("reading the usage of a stream"):
        if isinstance(record := run.operation.record, Chat):
            record.cache_write_tokens = None
            read_langchain_usage(record, run.last_usage)


def end_cancelled_run(id: object, error: BaseException) -> None:
    """End the operation of a run that is cancelled: by its reader, who has left it, or by *error*."""
    run = langchain_runs.find_run(id)
    if run is not None and run.is_left_by_reader():
        langchain_runs.end_operation(id, stream_end="closed")
    else:
        langchain_runs.end_operation(id, error)
