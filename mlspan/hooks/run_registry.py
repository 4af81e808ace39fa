"""The run registry: open runs of a framework that reports starts and ends under run ids of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from opentelemetry import context as otel

from .._guard import guard
from ..tracing.operations.operation import Operation, operation_sources, start_operation
from ..tracing.operations.records import Observe, Record
from ..tracing.operations.response_proxy import StreamEnd
from ..tracing.operations.suppression import is_suppressed
from ..tracing.runtime import get_runtime

_reading_guard = guard("reading an answer")


class Run:
    """One run of a framework, open until its end is reported. What an integration knows of it goes into a subclass.

    Attributes:
        parent: the framework's id of the run that this one is part of, or None.
        operation: the operation of the run; None if the run is folded into the one above it.
        context_before: the caller's context before the run's span was made current; None if it is not.
    """

    context_before: otel.Context | None = None

    def __init__(self, parent: Hashable, operation: Operation | None = None) -> None:
        self.parent, self.operation = parent, operation


RunT = TypeVar("RunT", bound=Run)


class RunRegistry(Generic[RunT]):
    """The open runs of a framework by its own run ids. All that is known of a run goes when its end is reported.

    A framework reports starts and ends from any thread or task. The parent of a run is the run that the framework
    names. It is the caller's current span instead if the framework names none, or if the caller is inside that run,
    possibly with spans of its own in between.

    Args:
        run_class: makes the object of a run, from the id of its parent and its operation.
    """

    def __init__(self, run_class: type[RunT]) -> None:
        self._current_run_key = otel.create_key("mlspan-run")  # the id of the run that a context is inside
        self._run_class = run_class
        self._runs: dict[Hashable, RunT] = {}
        self._entered: dict[Hashable, RunT] = {}  # those whose span has been made current
        self.find_run: Callable[[Hashable], RunT | None] = self._runs.get  # the run of an id; None if it is not open
        operation_sources.append(self.list_operations)

    def __len__(self) -> int:
        return len(self._runs) + len(self._entered)

    def __contains__(self, id: Hashable) -> bool:
        return self.find_own_operation(id) is not None

    def list_operations(self) -> list[Operation]:
        """Return the open operations."""
        return [run.operation for run in list(self._runs.values()) if run.operation is not None]

    def list_ids(self) -> list[Hashable]:
        """Return the ids of the open runs."""
        return list(self._runs)

    def list_runs_below(self, id: Hashable) -> list[Hashable]:
        """Return the ids of the open runs that are part of the run *id*, directly or by others."""
        return [other for other in list(self._runs) if other != id and self._find_root_id(other) == id]

    def _find_root_id(self, id: Hashable) -> Hashable:
        """Return the id of the topmost run above *id*, which need not be open, or *id* itself."""
        while (run := self._runs.get(id)) is not None and run.parent is not None:
            id = run.parent
        return id

    def find_own_operation(self, id: Hashable) -> Operation | None:
        """Return the operation of *id*; None if it has none of its own."""
        run = self._runs.get(id)
        return None if run is None else run.operation

    def find_operation(self, id: Hashable) -> Operation | None:
        """Return the operation of *id*, or of the nearest run above it that has a span; None if there is none."""
        run = self._runs.get(id)
        while run is not None and run.operation is None:  # folded
            run = self._runs.get(run.parent)
        return None if run is None else run.operation

    def get_current_id(self, around: otel.Context | None = None) -> Hashable:
        """Return the id of the run whose code the caller is inside, or *around* if given; None outside of any run."""
        return otel.get_value(self._current_run_key, around)

    def fold_run(self, id: Hashable, parent: Hashable) -> RunT:
        """Give the run *id* no span: runs below it get *parent* as their parent. It is ended like any other run."""
        run = self._runs[id] = self._run_class(parent)
        return run

    def start_operation(
        self,
        id: Hashable,
        record: Record,
        observe: Observe[Any] | None = None,
        *,
        parent: Hashable = None,
        around: otel.Context | None = None,
    ) -> Operation | None:
        """Start the operation of the run *id*. Return None if nothing is recorded.

        Args:
            id: the framework's id of the run.
            record: the facts known at the start.
            observe: reads the answer into the record.
            parent: the id of the run that this one is part of.
            around: the caller's context, if it was read already and does not suppress recording.
        """
        if around is None:
            around = otel.get_current()
            if is_suppressed(around):
                return None
        if (now := get_runtime()) is None:
            return None
        if parent is not None:
            run, parent_id = self._runs.get(parent), parent
            while run is not None and run.operation is None:  # folded
                parent_id = run.parent
                run = self._runs.get(parent_id)
            if run is not None and run.operation is not None and around.get(self._current_run_key) != parent_id:
                around = run.operation.context
        operation = start_operation(
            now,
            record,
            observe,
            sampling=now.get_span_starter().decide_sampling(around),
            marks={self._current_run_key: id},
        )
        self._runs[id] = self._run_class(parent, operation)
        return operation

    def enter_run(self, id: Hashable) -> None:
        """Make the span of the run *id* current until :meth:`leave_run` in the same thread and task.

        For a folded run, that is the span of the nearest run above it.
        """
        if (operation := self.find_operation(id)) is not None and (run := self._runs.get(id)) is not None:
            run.context_before = otel.get_current()
            self._entered[id] = run
            otel.attach(operation.context)

    def leave_run(self, id: Hashable) -> None:
        """Undo :meth:`enter_run`. In another task than that of :meth:`enter_run` this does nothing."""
        run = self._entered.pop(id, None) if self._entered else None
        if run is None or (operation := self.find_operation(id)) is None:
            return
        previous, run.context_before = run.context_before, None
        if previous is not None and otel.get_current() is operation.context:
            otel.attach(previous)
            return
        for other in list(self._entered.values()):  # a run entered later is still entered: it will leave for us
            if other.context_before is operation.context:
                other.context_before = previous
                return

    def end_operation(
        self, id: Hashable, error: BaseException | None = None, *, stream_end: StreamEnd | None = None
    ) -> None:
        """Leave the run *id*, end its operation, and forget the run."""
        if self._entered:
            self.leave_run(id)
        run = self._runs.pop(id, None)
        if run is not None and run.operation is not None:
            run.operation.finish(error, stream_end=stream_end)

    def release_operation(self, id: Hashable) -> Operation | None:
        """Leave the run *id* and return its operation.

        A stream or a task will end that, rather than :meth:`end_operation`.
        """
        self.leave_run(id)
        run = self._runs.pop(id, None)
        if run is None or run.operation is None:
            return None
        run.operation.hand_over()
        return run.operation

    def forget_run(self, id: Hashable) -> None:
        """Forget the run *id* without touching the caller's context; whoever calls this ends its operation.

        It takes no lock, and so may run in a finalizer.
        """
        self._entered.pop(id, None)
        self._runs.pop(id, None)

    def observe_answer(self, id: Hashable, value: object) -> None:
        """Read an answer, or a chunk of one, into the record of the run *id*."""
        if (operation := self.find_own_operation(id)) is not None:
            with _reading_guard:
                operation.observe(value)
