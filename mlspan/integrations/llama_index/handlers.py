"""Span handler and event handler of LlamaIndex's dispatcher, which turn its calls into operations.

They are added to the root dispatcher, and called in the thread and task of the traced code. The dispatcher does not
report the end of a stream that a call returns, nor the building of indexes: for those, methods are patched
(``streams.py``, ``index_building.py``).
"""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, ClassVar, Final

from ..._guard import guard, warn_once
from ..._shape import get_nested
from ...hooks.call import BegunCall
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, observe_method, remember_undo, replace_function
from ...tracing.mlflow_state.runs import get_active_run_id
from ...tracing.operations import semconv as sc
from ...tracing.operations.records import Step
from ...tracing.operations.suppression import is_suppressed
from ...tracing.runtime import get_runtime
from . import evaluation, operations, resumption, streams
from . import index_building as build
from . import workflows as workflow
from .calls import DispatchedCall, find_call_type, find_enclosing_call, set_enclosing_call
from .workflows import dispatched_calls

handler_failures: Final[
    list[BaseException]
] = []  # errors of ours under MLSPAN_STRICT=1, which the dispatcher would hide
_cancelled_calls: Final[set[str]] = (
    set()
)  # ids of calls that have been cancelled, and whose exit is still to be reported
_ID_SUFFIX_LENGTH: Final = 37  # length of the dash and the UUID that follow a call's name


def _guard_handler(method: Callable[..., None]) -> Callable[..., None]:
    """Return *method* with a guard around it; errors that escape the guard are kept in ``handler_failures``."""

    @functools.wraps(method)
    def call_guarded(*args: object, **kwargs: object) -> None:
        try:
            with guard(f"LlamaIndex's {method.__name__}"):
                method(*args, **kwargs)
        except BaseException as error:
            handler_failures.append(error)
            raise

    return call_guarded


class SpanHandler:
    """The methods of LlamaIndex's ``BaseSpanHandler`` that are used; that class is mixed in once it is imported."""

    hook: ClassVar[Any]  # None when turned off; calls that are open then are still ended

    @_guard_handler
    def span_enter(self, id_: str, bound_args: Any, instance: object = None, **_: object) -> None:
        settings, now = self.hook and self.hook.settings, get_runtime()
        if now is None or settings is None or not settings.log_traces or is_suppressed():
            return
        if settings.exclusive and get_active_run_id() is not None:
            return
        name = id_[:-_ID_SUFFIX_LENGTH]
        _enter_call(
            id_,
            name,
            DispatchedCall(
                instance, name.rpartition(".")[2], bound_args.arguments, now.policy.capture, find_enclosing_call()
            ),
        )

    @_guard_handler
    def span_exit(
        self,
        id_: str,
        bound_args: object,  # noqa: ARG002  # passed by name
        instance: object = None,
        result: object = None,
        **_: object,
    ) -> None:
        if id_ in _cancelled_calls:
            _cancelled_calls.discard(id_)
            _end_call(id_, asyncio.CancelledError())
        elif id_ not in dispatched_calls:
            workflow.observe_spanless_step(id_, result)
            streams.finish_chat_answer(instance)
            dispatched_calls.end_operation(id_)
        elif not streams.hand_over_stream(id_, instance, result):
            dispatched_calls.observe_answer(id_, result)
            _end_call(id_)

    @_guard_handler
    def span_drop(self, id_: str, bound_args: object, instance: object = None, err: Any = None, **_: object) -> None:  # noqa: ARG002  # as above
        _cancelled_calls.discard(id_)
        if id_ not in dispatched_calls:
            streams.finish_chat_answer(instance, err)
        _end_call(id_, err)

    def new_span(self, *_: object, **__: object) -> None: ...

    def prepare_to_exit_span(self, *_: object, **__: object) -> None: ...

    def prepare_to_drop_span(self, *_: object, **__: object) -> None: ...


def _enter_call(id: str, name: str, seen: DispatchedCall) -> None:
    """Start the operation of a call, if it is one.

    A step of an agent that is machinery has none: the operations inside of it stand below the agent's turn.
    """
    run = workflow.workflow_runs.get(seen.enclosing.operation) if seen.enclosing is not None else None
    if run is not None and seen.method in run.steps and (seen.owner is None or seen.owner is run.owner):
        turn = workflow.take_turn(seen, run)
        begun = workflow.begin_workflow_step(seen, run)
        if begun is not None:
            _start_call(id, begun, "step", seen, turn)
        elif turn is not None:
            workflow.enter_spanless_step(id, run)
        return
    kind = find_call_type(seen.owner, seen.method)
    if kind == "workflow":
        if "init_state" in seen.arguments:
            _start_call(id, workflow.begin_workflow_run(seen), kind, seen)
        else:  # older versions report the end of a run elsewhere than its start, or not at all
            warn_once("mlspan: the workflows of llama-index-workflows before 2.16 are not traced, only what they call")
    elif kind in operations.CALL_TYPES:
        if (begun := operations.begin_call(kind, seen)) is not None:
            _start_call(id, begun, kind, seen)
    elif not kind and not name.startswith(_FRAMEWORK_FUNCTIONS):
        _start_call(id, operations.begin_custom_call(seen, name), kind, seen)


_FRAMEWORK_FUNCTIONS: Final = ("run_jobs", "asyncio_")  # starts of the names of LlamaIndex's own functions


def _start_call(id: str, begun: BegunCall, kind: str, seen: DispatchedCall, turn: object = None) -> None:
    """Start the operation of a call, and make its span current; *turn* is the key of the agent's turn above it."""
    record, observe = begun
    operation = dispatched_calls.start_operation(id, record, observe, parent=turn)
    if operation is None:
        return
    if kind == "workflow":
        resumption.note_run(operation)
        workflow.workflow_runs[operation] = workflow.WorkflowRun(seen.owner, operation)
    name = get_nested(record, "name", str)
    set_enclosing_call(operation, "tool" if kind == "step" and not isinstance(record, Step) else kind, seen.owner, name)
    dispatched_calls.enter_run(id)


def _end_call(id: str, error: BaseException | None = None) -> None:
    """End the operation of a call, if it has one, and the run of a workflow that it stands for."""
    dispatched_calls.end_operation(
        id, workflow.end_workflow_run(dispatched_calls.find_operation(id) if id in dispatched_calls else None, error)
    )


class EventHandler:
    """The method of LlamaIndex's ``BaseEventHandler``; that class is mixed in once it is imported."""

    @_guard_handler
    def handle(self, event: object, **_: object) -> None:
        if (seen := _EVENT_READERS.get(type(event).__name__)) is not None:
            seen(event)


def _mark_reranker(event: object) -> None:
    """Mark a postprocessor as a reranker, with its model and the number of nodes that it keeps."""
    above = find_enclosing_call()
    if above is not None and isinstance(record := above.operation.record, Step) and above.call_type == "postprocessor":
        record.type = "reranker"
        found = {
            sc.REQUEST_MODEL: get_nested(event, "model_name", str),
            "mlspan.llama_index.top_n": get_nested(event, "top_n", int),
        }
        record.extra.update({key: one for key, one in found.items() if one is not None})


def _observe_chat_delta(event: Any) -> None:
    """Read a piece of a chat engine's answer; before 0.14.17, the answer itself is empty until the caller reads it."""
    above = find_enclosing_call()
    if above is not None and above.call_type == "chat_engine" and isinstance(above.operation.record, Step):
        operations.observe_engine_answer(above.operation.record, event.delta)


def _note_cancellation(event: Any) -> None:
    """Note that a call has been cancelled; its exit is reported next."""
    if dispatched_calls.find_run(event.span_id) is not None:
        _cancelled_calls.add(event.span_id)


_EVENT_READERS: Final[dict[str, Callable[[object], None]]] = {
    "ReRankStartEvent": _mark_reranker,
    "SpanCancelledEvent": _note_cancellation,
    "StreamChatDeltaReceivedEvent": _observe_chat_delta,
}


def _note_wait(args: tuple[object, ...], kwargs: dict[str, object], _: object) -> None:
    """Note that a step, or the tool it calls, waits for an event; LlamaIndex runs it again once the event comes."""
    above = find_enclosing_call()
    waiter = (*args[1:], *kwargs.values())[0]
    if above is not None and above.call_type in {"step", "tool"}:
        workflow.note_waiting(above.operation, waiter)


def _carry_context(original: Any) -> object:
    """Wrap ``sync_to_async``, which runs a plain function as a tool in a thread, to keep the current span there.

    Versions before 0.14.22 start the thread without the caller's context.
    """

    @functools.wraps(original)
    def sync_to_async(fn: Any) -> object:
        async def run_in_context(*args: Any, **kwargs: Any) -> object:
            return await original(functools.partial(copy_context().run, fn))(*args, **kwargs)

        return run_in_context

    return sync_to_async


def install(hook: Hook) -> Undo:
    """Add the handlers to the root dispatcher, and patch the methods for streams, indexes, waiting and threads."""
    core = importlib.import_module("llama_index.core.instrumentation")
    handlers = importlib.import_module("llama_index.core.instrumentation.span_handlers")
    events = importlib.import_module("llama_index.core.instrumentation.event_handlers")
    root = core.get_dispatcher()
    kind: Any = type("MlspanSpans", (SpanHandler, handlers.BaseSpanHandler), {})
    kind.hook = hook  # set afterwards, as pydantic would make a field of it
    spans = kind()
    event_handler: object = type("MlspanEvents", (EventHandler, events.BaseEventHandler), {})()
    root.add_span_handler(spans)
    root.add_event_handler(event_handler)

    def remove_handlers() -> None:
        kind.hook = None
        if len(dispatched_calls):  # turned off amid a call: the handlers stay, so that its end is still reported
            return
        root.span_handlers = [one for one in root.span_handlers if one is not spans]
        root.event_handlers = [one for one in root.event_handlers if one is not event_handler]

    remember_undo(remove_handlers)
    waiting = "workflows.runtime.types.results:WaitingForEvent.__init__"
    threads = "llama_index.core.tools.function_tool:sync_to_async"
    unpatch = apply_patches(
        [
            Patch("llama_index.core.base.llms.base:BaseLLM", streams.trace_llm_streams, "the end of streams"),
            *build.make_index_patches(hook),
            *evaluation.make_evaluator_patches(hook),
            *resumption.make_context_patches(),
            Patch(waiting, functools.partial(observe_method, callback=_note_wait), "waiting steps", is_optional=True),
            Patch(threads, functools.partial(replace_function, make=_carry_context), "that a tool's spans are its own"),
        ]
    )

    def undo() -> None:
        unpatch()
        remove_handlers()

    return undo
