"""Span handler and event handler of LlamaIndex's dispatcher, which turn its calls into operations.

They are added to the root dispatcher, and called in the thread and task of the traced code. The dispatcher does not
report the end of a stream that a call returns, nor the building of indexes: for those, methods are patched
(``_llama_streams.py``, ``_llama_build.py``).
"""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, ClassVar, Final

from ..._guard import guard, tell_once
from ..._shape import dig
from ...hooks.hook import Hook
from ...hooks.patching import Undo, all_there, replace, tap
from ...tracing.mlflow_state.runs import active_run_id
from ...tracing.operations import semconv as sc
from ...tracing.operations.call_context import suppressed
from ...tracing.operations.records import Step
from ...tracing.runtime import runtime
from . import index_building as build
from . import operations as kinds
from . import streams
from . import workflows as workflow
from .operations import Begun, Seen, around, surround
from .workflows import ledger

failures: Final[list[BaseException]] = []  # errors of ours under MLSPAN_STRICT=1, which the dispatcher would hide
_cancelled: Final[set[str]] = set()  # ids of calls that have been cancelled, and whose exit is still to be reported
_STEERING: Final = frozenset({"WaitingForEvent", "WorkflowDone"})  # exceptions that control workflows: no failures
_ID_LENGTH: Final = 37  # length of the dash and the UUID that follow a call's name


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Return *method* with a guard around it; errors that escape the guard are kept in ``handler_failures``."""

    @functools.wraps(method)
    def call_guarded(*args: Any, **kwargs: Any) -> None:
        try:
            with guard(f"LlamaIndex's {method.__name__}"):
                method(*args, **kwargs)
        except BaseException as error:
            failures.append(error)
            raise

    return call_guarded


class Spans:
    """The methods of LlamaIndex's ``BaseSpanHandler`` that are used; that class is mixed in once it is imported."""

    hook: ClassVar[Any]  # None when turned off; calls that are open then are still ended

    @_guarded
    def span_enter(self, id_: str, bound_args: Any, instance: Any = None, **_: Any) -> None:
        settings, now = self.hook and self.hook.settings, runtime()
        if now is None or settings is None or not settings.log_traces or suppressed():
            return
        if settings.exclusive and active_run_id() is not None:
            return
        name = id_[:-_ID_LENGTH]
        _enter(id_, name, Seen(instance, name.rpartition(".")[2], bound_args.arguments, now.policy.capture, around()))

    @_guarded
    def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any) -> None:  # noqa: ARG002  # passed by name
        if id_ in _cancelled:
            _cancelled.discard(id_)
            workflow.left(id_)
            _end(id_, asyncio.CancelledError())
        elif id_ not in ledger:
            workflow.left(id_, result)
            streams.written(instance)
            ledger.end(id_)
        elif not streams.returned(id_, instance, result):
            ledger.observe(id_, result)
            _end(id_)

    @_guarded
    def span_drop(self, id_: str, bound_args: Any, instance: Any = None, err: Any = None, **_: Any) -> None:  # noqa: ARG002  # as above
        _cancelled.discard(id_)
        if id_ not in ledger:
            workflow.left(id_)
            streams.written(instance, err)
        _end(id_, None if type(err).__name__ in _STEERING else err)

    def new_span(self, *_: Any, **__: Any) -> None: ...

    def prepare_to_exit_span(self, *_: Any, **__: Any) -> None: ...

    def prepare_to_drop_span(self, *_: Any, **__: Any) -> None: ...


def _enter(id: str, name: str, seen: Seen) -> None:
    """Start the operation of a call, if it is one.

    A step of an agent that is machinery has none: the operations inside of it stand below the agent's turn.
    """
    run = workflow.runs.get(seen.around.live) if seen.around is not None else None
    if run is not None and seen.method in run.steps and (seen.owner is None or seen.owner is run.owner):
        turn = workflow.take_turn(seen, run)
        begun = workflow.begin_step(seen, run)
        if begun is not None:
            _start(id, begun, "step", seen, turn)
        elif turn is not None:
            workflow.entered(id, run)
        return
    kind = kinds.kind_of(seen.owner, seen.method)
    if kind == "workflow":
        if "init_state" in seen.arguments:
            _start(id, workflow.begin_run(seen), kind, seen)
        else:  # older versions report the end of a run elsewhere than its start, or not at all
            tell_once("mlspan: the workflows of llama-index-workflows before 2.16 are not traced, only what they call")
    elif kind in kinds.KINDS:
        if (begun := kinds.begin(kind, seen)) is not None:
            _start(id, begun, kind, seen)
    elif not kind and not name.startswith(_FUNCTIONS):
        _start(id, kinds.custom(seen, name), kind, seen)


_FUNCTIONS: Final = ("run_jobs", "asyncio_")  # starts of the names of LlamaIndex's own functions


def _start(id: str, begun: Begun, kind: str, seen: Seen, turn: Any = None) -> None:
    """Start the operation of a call, and make its span current; *turn* is the key of the agent's turn above it."""
    record, observe = begun
    operation = ledger.start(id, record, observe, parent=turn)
    if operation is None:
        return
    if kind == "workflow":
        workflow.runs[operation] = workflow.Run(seen.owner, operation)
    name = dig(record, "name", str)
    surround(operation, "tool" if kind == "step" and not isinstance(record, Step) else kind, seen.owner, name)
    ledger.enter(id)


def _end(id: str, error: BaseException | None = None) -> None:
    """End the operation of a call, if it has one, and the run of a workflow that it stands for."""
    ledger.end(id, workflow.ended(ledger.get(id) if id in ledger else None, error))


class Events:
    """The method of LlamaIndex's ``BaseEventHandler``; that class is mixed in once it is imported."""

    @_guarded
    def handle(self, event: Any, **_: Any) -> None:
        if (seen := _EVENTS.get(type(event).__name__)) is not None:
            seen(event)


def _reranks(event: Any) -> None:
    """Mark a postprocessor as a reranker, with its model and the number of nodes that it keeps."""
    above = around()
    if above is not None and isinstance(record := above.live.record, Step) and above.kind == "postprocessor":
        record.type = "reranker"
        found = {sc.REQUEST_MODEL: dig(event, "model_name", str), "mlspan.llama_index.top_n": dig(event, "top_n", int)}
        record.extra.update({key: one for key, one in found.items() if one is not None})


def _is_said(event: Any) -> None:
    """Read a piece of a chat engine's answer; before 0.14.17, the answer itself is empty until the caller reads it."""
    above = around()
    if above is not None and above.kind == "chat_engine" and isinstance(above.live.record, Step):
        kinds.observe_answer(above.live.record, event.delta)


def _is_cancelled(event: Any) -> None:
    """Note that a call has been cancelled; its exit is reported next."""
    if event.span_id in ledger or event.span_id in workflow.steps:
        _cancelled.add(event.span_id)


_EVENTS: Final[dict[str, Callable[[Any], None]]] = {
    "ReRankStartEvent": _reranks,
    "SpanCancelledEvent": _is_cancelled,
    "StreamChatDeltaReceivedEvent": _is_said,
}


def _waits(args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
    """Note that a step, or the tool it calls, waits for an event; LlamaIndex runs it again once the event comes."""
    above = around()
    waiter = (*args[1:], *kwargs.values())[0]
    if above is not None and above.kind in {"step", "tool"}:
        workflow.wait(above.live, waiter)


def _carrying(original: Any) -> Any:
    """Wrap ``sync_to_async``, which runs a plain function as a tool in a thread, to keep the current span there.

    Versions before 0.14.22 start the thread without the caller's context.
    """

    @functools.wraps(original)
    def sync_to_async(fn: Any) -> Any:
        async def run_in_context(*args: Any, **kwargs: Any) -> Any:
            return await original(functools.partial(copy_context().run, fn))(*args, **kwargs)

        return run_in_context

    return sync_to_async


def install(hook: Hook) -> Undo:
    """Add the handlers to the root dispatcher, and patch the methods for streams, indexes, waiting and threads."""
    core = importlib.import_module("llama_index.core.instrumentation")
    handlers = importlib.import_module("llama_index.core.instrumentation.span_handlers")
    events = importlib.import_module("llama_index.core.instrumentation.event_handlers")
    root = core.get_dispatcher()
    kind: Any = type("MlspanSpans", (Spans, handlers.BaseSpanHandler), {})
    kind.hook = hook  # set afterwards, as pydantic would make a field of it
    spans = kind()
    heard: Any = type("MlspanEvents", (Events, events.BaseEventHandler), {})()
    root.add_span_handler(spans)
    root.add_event_handler(heard)
    waiting = "workflows.runtime.types.results:WaitingForEvent.__init__"
    threads = "llama_index.core.tools.function_tool:sync_to_async"
    unpatch = all_there(
        [
            ("streams", streams.watch),
            ("indexes", functools.partial(build.watch, hook)),
            (waiting, functools.partial(tap, waiting, _waits)),
            (threads, functools.partial(replace, threads, _carrying)),
        ]
    )

    def undo() -> None:
        unpatch()
        kind.hook = None
        if len(ledger):  # turned off in the middle of a call: the handlers stay, so that its end is still reported
            return
        root.span_handlers = [one for one in root.span_handlers if one is not spans]
        root.event_handlers = [one for one in root.event_handlers if one is not heard]

    return undo
