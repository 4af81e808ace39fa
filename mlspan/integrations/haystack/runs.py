"""Runs that Haystack tells of: what stands in for its spans, and how a run finds its parent."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime
from typing import Any, Final

from opentelemetry import context as otel

from ..._guard import guard
from ..._shape import get_field
from ...hooks.call import Call
from ...hooks.hook import Hook
from ...tracing.operations.call_context import use_context
from ...tracing.operations.exceptions import get_error_type
from ...tracing.operations.noop import NOOP_OPERATION, NoOpOperation
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Tool
from .records import Content, begin_run, begin_tool

RUN_KEY: Final = otel.create_key("mlspan-haystack-run")  # context key of the innermost run
_TOOL_KEY: Final = otel.create_key("mlspan-haystack-tool")  # likewise of a tool that the program calls itself

_SNAPSHOT_KEY: Final = otel.create_key("mlspan-haystack-snapshot")  # of a list with what the next run resumes

_OUTPUTS: Final = "haystack.pipeline.output_data"  # 3.0 names it at the start, and fills in the dict until the end


class TracedRun:
    """A context manager around that of the application's own tracer: the same run, as an operation of ours.

    Attributes:
        name: Haystack's name of the kind of run.
        tags: what Haystack says of it at its start.
        owner: the component, agent or tool that runs; None where Haystack's version does not tell.
        tool_call: the call that has asked for the tool that runs; likewise.
        around: the run that this one is part of.
        operation: the operation of the run, or a stand-in.
        inside: the context inside of the run; None before it has begun.
    """

    def __init__(self, hook: Hook, own: Any, name: str, tags: Mapping[str, Any] | None, parent: object) -> None:
        self._hook, self._own = hook, own
        self._parent = _find_run(parent)
        self.name, self.tags = name, tags or {}
        self.owner: Any = None
        self.tool_call: Any = None
        self.around: TracedRun | None = None
        self.operation: Any = NOOP_OPERATION
        self.inside: otel.Context | None = None

    def __enter__(self) -> object:
        span = self._own.__enter__()
        with guard("starting a span"):
            around, run = self._find_around(), self
            if around is not None and self._is_part_of(around):
                run = around
            else:
                self._start_operation(around)
            if run.operation is not NOOP_OPERATION:
                return RunSpan(span, run)
        return span

    def _find_around(self) -> TracedRun | None:
        """Return the run around this one: the one that Haystack names, or that whose code is running."""
        if self._parent is not None:
            return self._parent
        current = otel.get_value(RUN_KEY)
        return current if isinstance(current, TracedRun) else None

    def _is_part_of(self, around: TracedRun) -> bool:
        """Return whether the run around this one has the span of both."""
        is_same_agent = self.name == "haystack.agent.run" and around.owner is self.owner and self.owner is not None
        return self.name == "haystack.agent.step" or is_same_agent

    def _start_operation(self, around: TracedRun | None) -> None:
        self.around, here = around, otel.get_current()
        if around is not None and around.inside is not None and here.get(RUN_KEY) is not around:
            here = around.inside  # this thread does not know the run
        with use_context(here):
            self.operation = self._hook.start_operation(begin_run, (self,), {})
        if isinstance(self.operation, Operation):
            self.operation.context = otel.set_value(RUN_KEY, self, self.operation.context)
        self.operation.__enter__()
        self.inside = otel.get_current()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> Any:
        with guard("ending a span"):
            if error is None and _OUTPUTS in self.tags:
                self.note_tag(_OUTPUTS, Content(self.tags[_OUTPUTS]))
            self._offer_snapshot(error)
            cause = error if error is None else self._find_cause(error)
            self.operation.__exit__(type(cause) if cause is not None else None, cause, None)
        return self._own.__exit__(kind, error, trace)

    def _offer_snapshot(self, error: BaseException | None) -> None:
        """Offer the snapshot that Haystack has put into the *error* of a pipeline: a later run may resume it."""
        if isinstance(self.operation, Operation) and self.name == "haystack.pipeline.run":
            snapshot = _name_snapshot(get_field(error, "pipeline_snapshot"))
            if snapshot is not None:
                self.operation.record.add_offer("resumes", snapshot)

    def _find_cause(self, error: BaseException) -> BaseException:
        """Return what a component has raised, where Haystack has wrapped it on the way to the pipeline."""
        is_wrapped = self.name == "haystack.component.run" and type(error).__name__ == "PipelineRuntimeError"
        return error.__cause__ or error if is_wrapped else error

    def take_snapshot(self) -> str | None:
        """Return the name of the snapshot that this run of a pipeline resumes; None if it begins anew."""
        given = otel.get_value(_SNAPSHOT_KEY)
        return given.pop() if isinstance(given, list) and given else None

    def note_tag(self, key: str, value: object) -> None:
        """Read a tag that Haystack or the program sets."""
        if isinstance(self.operation, Operation):
            self.operation.observe((key, value))


class ResumingCall(NoOpOperation):
    """A context manager around ``run`` of a pipeline: the run that it begins knows the snapshot that it resumes."""

    def __init__(self, args: Any, kwargs: Any, *, function: Any = None) -> None:
        snapshot = Call(args, kwargs, capture_content=False, options={}, function=function).argument(
            "pipeline_snapshot"
        )
        name = _name_snapshot(snapshot)
        self._context = use_context(otel.set_value(_SNAPSHOT_KEY, [name])) if name else nullcontext()

    def __enter__(self) -> ResumingCall:
        self._context.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._context.__exit__(*raised)


def _name_snapshot(snapshot: object) -> str | None:
    """Return what tells one snapshot of a pipeline from another: when it was taken."""
    taken = get_field(snapshot, "timestamp")
    return f"haystack {taken.isoformat()}" if isinstance(taken, datetime) else None


class RunSpan:
    """A proxy of a span of the application's own tracer, which passes on each tag and has ours read it."""

    __slots__ = ("_mlspan_own", "_mlspan_run")
    _mlspan_own: Any
    _mlspan_run: TracedRun

    def __init__(self, own: object, run: TracedRun) -> None:
        object.__setattr__(self, "_mlspan_own", own)
        object.__setattr__(self, "_mlspan_run", run)

    def set_tag(self, key: str, value: object) -> None:
        self._mlspan_run.note_tag(key, value)
        self._mlspan_own.set_tag(key, value)

    def set_tags(self, tags: dict[str, Any]) -> None:
        for key, value in tags.items():
            self._mlspan_run.note_tag(key, value)
        self._mlspan_own.set_tags(tags)

    def set_content_tag(self, key: str, value: object) -> None:
        self._mlspan_run.note_tag(key, Content(value))
        self._mlspan_own.set_content_tag(key, value)

    def __getattr__(self, name: str) -> object:
        return getattr(self._mlspan_own, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._mlspan_own, name, value)

    def __repr__(self) -> str:
        return repr(self._mlspan_own)

    @property  # type: ignore[misc]  # isinstance(span, Span) stays true
    def __class__(self) -> type:
        return self._mlspan_own.__class__  # type: ignore[no-any-return]  # as of any object


def _find_run(span: object) -> TracedRun | None:
    return span._mlspan_run if type(span) is RunSpan else None


def _find_own_span(span: object) -> object:
    return span._mlspan_own if type(span) is RunSpan else span


def trace_run(hook: Hook, fn: Callable[..., object], enabled: list[bool]) -> Callable[..., object]:
    """Return the ``trace`` of Haystack's tracer such that each run is an operation of ours as well."""

    @functools.wraps(fn)
    def open_traced_run(
        self: Any, operation_name: str, tags: dict[str, Any] | None = None, parent_span: Any = None
    ) -> Any:
        own = fn(self, operation_name, tags=tags, parent_span=_find_own_span(parent_span))
        return TracedRun(hook, own, operation_name, tags, parent_span) if enabled else own

    return open_traced_run


def wrap_current_span(fn: Callable[..., object], enabled: list[bool]) -> Callable[..., object]:
    """Return the ``current_span`` of Haystack's tracer such that tags of the span are read."""

    @functools.wraps(fn)
    def current_span(self: object) -> object:
        own, run = fn(self), otel.get_value(RUN_KEY) if enabled else None
        return RunSpan(own, run) if own is not None and isinstance(run, TracedRun) else own

    return current_span


class _WatchedTool(NoOpOperation):
    """Stand-in for the operation of a tool that an agent runs. It notes why the tool has failed."""

    def __init__(self, record: Tool) -> None:
        self._record = record

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception):  # the agent may turn it into an answer
            cause = error.__cause__ or error
            self._record.failure = (get_error_type(cause), str(cause))


def open_tool_call(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of ``invoke`` of a tool, or watch the call where an agent's run is that operation already."""
    tool, run = args[0], otel.get_value(RUN_KEY)
    if otel.get_value(_TOOL_KEY) is tool:
        return NOOP_OPERATION  # the tool calls itself
    if isinstance(run, TracedRun) and run.owner is tool and isinstance(run.operation.record, Tool):
        return _WatchedTool(run.operation.record)
    operation = hook.start_operation(begin_tool, args, kwargs, function=function)
    if isinstance(operation, Operation):
        operation.context = otel.set_value(_TOOL_KEY, tool, operation.context)
    return operation
