"""The open runs of CrewAI: which event has started each of them, and which event ends it.

CrewAI pairs its events by a stack of its own, which loses its order where an end is reported twice or not at all. So a
run is found by what it is about: first among those that the caller's context is inside, then among all that are open.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Hashable, Iterator
from typing import Any, Final, NamedTuple

from opentelemetry import context as otel

from ..._guard import guard
from ..._shape import get_nested
from ...hooks.run_registry import Run, RunRegistry
from ...tracing.operations import semconv as sc
from ...tracing.operations.call_context import detach_context
from ...tracing.operations.noop import NoOpOperation
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Record


class Subject(NamedTuple):
    """The subject of a run: the type of the event that starts it, and a key for the object that the event names."""

    event_type: str
    key: Hashable


class CrewRun(Run):
    """A run of CrewAI.

    Attributes:
        subject: its subject; None until it has started.
        handled: the exception that was being handled when the run started, which is none of its own.
        asked: of an agent, the tool calls that its model has asked for and that have not begun: id, name, arguments.
        pieces: of a call to a model, what its stream has said so far.
        usages: of a call to a model, the tokens of its requests, as the provider has told them.
        thread: the id of the thread in which the run has started.
    """

    subject: Subject | None = None
    handled: BaseException | None = None

    def __init__(self, parent: Hashable, operation: Operation | None = None) -> None:
        super().__init__(parent, operation)
        self.asked: list[tuple[str, str, object]] = []
        self.pieces: list[str] = []
        self.usages: list[object] = []
        self.thread = threading.get_ident()

    @property
    def is_background(self) -> bool:
        """Return whether the run goes on when the call has failed in which it has started: a memory is being saved."""
        return self.subject is not None and self.subject.event_type == "memory_save_started"


crewai_runs: Final = RunRegistry(CrewRun)


def start_run(event: Any, subject: Subject, record: Record) -> CrewRun | None:
    """Start the operation of a run, and make its span current in the caller's context. None if nothing is recorded."""
    around, id = otel.get_current(), event.event_id
    parent = crewai_runs.get_current_id() or get_nested(event, "parent_event_id", str)
    if crewai_runs.start_operation(id, record, parent=parent) is None:
        return None
    if (run := crewai_runs.find_run(id)) is not None:
        run.subject, run.handled = subject, sys.exc_info()[1]
        if isinstance(boundary := around.get(_BOUNDARY_KEY), Boundary):
            boundary.note_run(id)
        crewai_runs.enter_run(id)
    return run


def list_current_ids() -> Iterator[Hashable]:
    """Yield the ids of the open runs that the caller's context is inside, innermost first."""
    id = crewai_runs.get_current_id()
    while id is not None and (run := crewai_runs.find_run(id)) is not None:
        yield id
        id = run.parent


def find_current_run(event_type: str) -> CrewRun | None:
    """Return the innermost run that the caller is inside and that an event of this type has started, or None."""
    for id in list_current_ids():
        run = crewai_runs.find_run(id)
        if run is not None and run.subject is not None and run.subject.event_type == event_type:
            return run
    return None


def find_run_id(subject: Subject) -> Hashable:
    """Return the id of the open run about *subject*: one that the caller is inside, else the newest, or None."""
    for id in list_current_ids():
        if _is_about(id, subject):
            return id
    return next((id for id in reversed(crewai_runs.list_ids()) if _is_about(id, subject)), None)


def _is_about(id: Hashable, subject: Subject) -> bool:
    run = crewai_runs.find_run(id)
    return run is not None and run.subject == subject


def end_run(id: Hashable, failure: BaseException | str | None = None) -> None:
    """End the run *id*, and before it those inside that the caller has left without an end.

    Args:
        id: the event id of the start.
        failure: the exception that ended the run, or what CrewAI says of it where there is none.
    """
    error = failure if isinstance(failure, BaseException) else None
    current = [*list_current_ids()]
    for inner in current[: current.index(id)] if id in current else ():
        crewai_runs.end_operation(inner, error)
    operation = crewai_runs.find_own_operation(id)
    if operation is not None and isinstance(failure, str):
        operation.record.failure = (sc.ERROR_OTHER, failure)
    crewai_runs.end_operation(id, error)


def read_failure(event: object, run: CrewRun) -> BaseException | str:
    """Return the exception that an event tells of, or that is being handled, else the event's text."""
    told = getattr(event, "error", None)
    if isinstance(told, BaseException):
        return told
    raised = sys.exc_info()[1]
    if raised is not None and raised is not run.handled:
        return raised
    return str(told) if told else "failed"


class Boundary(NoOpOperation):
    """A call in which runs start, after which nothing of them may be left in the caller's context.

    It is a context manager around the call. Where CrewAI reports no end, what is open ends with the call's exception.

    Attributes:
        outside: the context around the outermost of such calls.
    """

    outside: otel.Context
    _token: Any

    def __init__(self) -> None:
        self._ids: list[Hashable] = []
        self._thread = threading.get_ident()

    def __enter__(self) -> Boundary:
        outside = find_outside()
        self.outside = otel.get_current() if outside is None else outside
        self._context = otel.set_value(_BOUNDARY_KEY, self)
        self._token = otel.attach(self._context)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        with _guard:
            if error is not None:
                self._end_runs(error)
        detach_context(self._token, self._context)

    def list_open_ids(self, event_type: str) -> list[Hashable]:
        """Return the ids of the open runs of this call that an event of this type has started."""
        found = [(id, crewai_runs.find_run(id)) for id in self._ids]
        return [id for id, run in found if run and run.subject and run.subject.event_type == event_type]

    def note_run(self, id: Hashable) -> None:
        """Note a run that has started inside of this call, and in no other call inside of it."""
        self._ids.append(id)

    def _end_runs(self, error: BaseException) -> None:
        reader = otel.get_value(READER_KEY, self._context)
        has_left = isinstance(reader, StreamReader) and reader.has_left and not isinstance(error, Exception)
        for id in reversed(self._ids):
            run = crewai_runs.find_run(id)
            if run is None or self._goes_on(run, error):
                continue
            if has_left:
                crewai_runs.end_operation(id, stream_end="closed")
            else:
                crewai_runs.end_operation(id, error)

    def _goes_on(self, run: CrewRun, error: BaseException) -> bool:
        """Return whether a run goes on in a thread of its own, and reports its end from there.

        A thread cannot be cancelled, and a memory is saved although what has asked for it has failed.
        """
        return run.thread != self._thread and (run.is_background or isinstance(error, asyncio.CancelledError))


def find_outside() -> otel.Context | None:
    """Return the context around the outermost call of CrewAI that the caller is inside; None outside of any."""
    outer = otel.get_value(_BOUNDARY_KEY)
    return outer.outside if isinstance(outer, Boundary) else None


class StreamReader:
    """The reader of a crew's or a flow's stream, as the context of its runs holds it."""

    has_left = False


READER_KEY: Final = otel.create_key("mlspan-crewai-reader")
_BOUNDARY_KEY: Final = otel.create_key("mlspan-crewai-boundary")
_guard: Final = guard("ending runs of CrewAI")
