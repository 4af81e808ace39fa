"""Runs of workflows that go on from a saved context are linked to the run that it was saved from.

``Context.to_dict`` is what a program stores, and ``Context.from_dict`` what it goes on from, in another process too. So
the ids of the run's span travel in that dict. Where a version of the library lacks one of the patched methods, the link
is missing, and nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import context as otel
from opentelemetry.trace import SpanContext, TraceFlags

from ..._guard import guard
from ...hooks.patching import Patch, replace_function
from ...tracing.operations.operation import Operation

TRACE_KEY: Final = "mlspan_trace"  # in a saved context; its value is "<trace id>-<span id>" in hex
_CONTEXT_CLASS: Final = "workflows.context.context:Context"
_RUN_KEY: Final = otel.create_key("mlspan-llama-index-run")
# A private name that some versions lack, and what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {"_workflow_run": "the link of a run that goes on to the run before it"}

_guard: Final = guard("linking a run to the one before")


class _ContextRun:
    """The run of a workflow's context: the span that it goes on from, and its own, as soon as that has started."""

    def __init__(self, before: SpanContext | None = None) -> None:
        self.before = before
        self.span: SpanContext | None = None


_runs: Final[WeakKeyDictionary[object, _ContextRun]] = WeakKeyDictionary()  # context of a workflow -> its last run


def make_context_patches() -> tuple[Patch, ...]:
    """Return the patches of the methods by which a workflow's context is made, run and saved."""
    wrappers = (("__init__", _wrap_init), ("_workflow_run", _wrap_run), ("to_dict", _wrap_to_dict))
    return tuple(
        Patch(
            f"{_CONTEXT_CLASS}.{name}",
            functools.partial(replace_function, make=make),
            "the link of a run that goes on",
            is_optional=True,
        )
        for name, make in wrappers
    )


def note_run(operation: Operation) -> None:
    """Note the operation of a run that has just started, and link it to the run that its context was saved from."""
    run = otel.get_value(_RUN_KEY)
    if isinstance(run, _ContextRun) and run.span is None:  # else it is that of a workflow around this one
        run.span = operation.span.get_span_context()
        if run.before is not None:
            operation.record.add_cause("resumes", run.before)


def _wrap_init(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap the constructor, which reads what was saved."""

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        with _guard:
            saved = kwargs.get("previous_context", args[1] if len(args) > 1 else None)
            if isinstance(saved, dict) and (before := _parse_ids(saved.get(TRACE_KEY))) is not None:
                _runs[self] = _ContextRun(before)

    return init


def _wrap_run(original: Callable[..., object]) -> Callable[..., object]:
    """Wrap the method that starts a run: its task copies the caller's context, and so learns whose run it is."""

    @functools.wraps(original)
    def run_workflow(self: object, *args: object, **kwargs: object) -> object:
        known = _runs.get(self)
        run = _runs[self] = _ContextRun(known.before if known is not None and known.span is None else None)
        token = otel.attach(otel.set_value(_RUN_KEY, run))
        try:
            return original(self, *args, **kwargs)
        finally:
            otel.detach(token)

    return run_workflow


def _wrap_to_dict(original: Callable[..., dict[str, object]]) -> Callable[..., dict[str, object]]:
    """Wrap the method that saves a context, to save the ids of its run's span as well."""

    @functools.wraps(original)
    def to_dict(self: object, *args: object, **kwargs: object) -> dict[str, object]:
        saved = original(self, *args, **kwargs)
        with _guard:
            run = _runs.get(self)
            if run is not None and run.span is not None and run.span.is_valid:
                saved[TRACE_KEY] = f"{run.span.trace_id:032x}-{run.span.span_id:016x}"
        return saved

    return to_dict


def _parse_ids(text: Any) -> SpanContext | None:
    """Parse ``<trace id>-<span id>``; None if it is no such text."""
    try:
        trace_id, span_id = (int(part, 16) for part in text.split("-"))
    except (AttributeError, ValueError):
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
