"""What LangGraph's callbacks do not say: which node led to which, what a run resumes, and its checkpoints.

The loop that drives a graph is watched where it commits what a task has written, and where it stores a checkpoint.
The ids of the trace that a run was interrupted in stand in its checkpoint's metadata, so that the run that resumes
it, in whatever process, carries a link to it.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.trace import SpanContext, TraceFlags

from .._guard import guard
from .._shape import get
from ..tracing import semconv as sc
from ..tracing.ledger import Ledger
from ..tracing.live import Live
from ..tracing.records import Agent, Named, Step, Workflow
from ._hook import Hook
from ._patch import Undo, all_there, replace

ledger: Final = Ledger()  # of LangChain's runs, graphs and nodes among them


def number(run_id: Any) -> Any:
    """What a run is known by here: of a UUID its number, as a UUID's own hash is Python code."""
    return getattr(run_id, "int", run_id)


TRACE: Final = "mlspan_trace"  # in a checkpoint's metadata: trace id, span id, as in a traceparent
_LOOP: Final = "langgraph.pregel._loop:PregelLoop"
_LOOP_BEFORE_0_6: Final = "langgraph.pregel.loop:PregelLoop"


class _Sender(NamedTuple):
    path: str
    order: int
    target: str
    context: SpanContext


class _Edges:
    """One run of a graph: who wrote to which channel, so that who is triggered by it can point back."""

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[SpanContext, Any]] = {}  # task id -> its span, and its place in the graph
        self._writers: dict[str, list[SpanContext]] = defaultdict(list)
        self._read: set[str] = set()  # channels that have triggered somebody since they were written to
        self._sent: list[_Sender] = []
        self._sent_read = False

    def wrote(self, task_id: str, writes: Any) -> None:
        if task_id not in self.tasks:
            return
        context, path = self.tasks[task_id]
        for channel, value in writes:
            if channel == "__pregel_tasks":
                if self._sent_read:
                    self._sent, self._sent_read = [], False
                place = _place(path[:3]) if isinstance(path, (tuple, list)) else str(path)
                self._sent.append(_Sender(place, len(self._sent), str(get(value, "node")), context))
            elif channel.startswith(("branch:", "join:")):
                if channel in self._read:
                    self._read.discard(channel)
                    self._writers[channel] = []
                self._writers[channel].append(context)

    def triggered(self, triggers: Any, path: Any) -> list[SpanContext]:
        """The spans of the nodes that led to a task with these triggers, at this place."""
        if isinstance(path, (tuple, list)) and path and path[0] == "__pregel_push" and len(path) > 1:
            self._sent_read = True
            sent = sorted(self._sent, key=lambda one: (one.path, one.order))
            index = path[1] if isinstance(path[1], int) else len(sent)
            return [sent[index].context] if index < len(sent) else []
        self._read.update(triggers)
        return [context for channel in triggers for context in self._writers.get(channel, ())]


def _place(path: Any) -> str:
    """Places sort as LangGraph sorts them."""
    if isinstance(path, (tuple, list)):
        return "~" + ", ".join(_place(one) for one in path)
    return f"{path:010d}" if isinstance(path, int) else str(path)


_looking: Final = guard("looking at a graph")
edges: Final[dict[Any, _Edges]] = {}  # run of a graph, while it is open -> its edges


def started(parent: Any, live: Live, metadata: Mapping[str, Any]) -> None:
    """A node's run has started: link it to what triggered it."""
    if not edges or (known := edges.get(parent)) is None:
        return
    if type(live.record) is not Step or live.record.type != "node":
        return
    task_id = str(metadata.get("langgraph_checkpoint_ns", "")).rpartition("|")[2].rpartition(":")[2]
    path = metadata.get("langgraph_path")
    for context in known.triggered(metadata.get("langgraph_triggers") or (), path):
        live.span.add_link(context, {sc.LINK: "triggered_by"})
    known.tasks[task_id] = (live.span.get_span_context(), path)


def _run(loop: Any) -> Any:
    return number(getattr(getattr(loop, "manager", None), "run_id", None))


def _beginning(original: Any) -> Any:
    """The loop has read its checkpoint and goes about its first step."""

    @functools.wraps(original)
    def _first(loop: Any, *args: Any, **kwargs: Any) -> Any:
        run_id = _run(loop)
        if (live := ledger.own(run_id)) is not None:
            _begun(loop, run_id, live)
        return original(loop, *args, **kwargs)

    return _first


def _begun(loop: Any, run_id: Any, live: Live) -> None:
    with _looking:
        edges[run_id] = _Edges()
        _be_graph(live, loop)
        record = live.record
        if isinstance(record, (Agent, Workflow)) and record.conversation is None:
            thread = (get(get(loop, "config"), "configurable") or {}).get("thread_id")
            record.conversation = None if thread is None else str(thread)
        saved = loop.checkpoint_metadata
        if saved.get("step", -2) > -2:  # what an empty checkpoint has
            _event(live, "checkpoint.read", loop, saved)
            waiting = any(write[1] == "__interrupt__" for write in loop.checkpoint_pending_writes or ())
            if (waiting or loop.input is None) and (before := _context(saved.get(TRACE))) is not None:
                live.span.add_link(before, {sc.LINK: "resumes"})


def _be_graph(live: Live, loop: Any) -> None:
    """That a run is a graph or a prebuilt agent is known for sure only here."""
    record = live.record
    if isinstance(record, Agent) or not isinstance(record, Named):
        return
    cls = Agent if _is_prebuilt(get(loop, "nodes") or {}) else Workflow
    if type(record) is not cls:
        name = None if record.name == "LangGraph" else record.name
        live.record = cls(name=name, input=record.input, extra=record.extra)
        live.record.conversation = getattr(record, "conversation", None)


def _is_prebuilt(nodes: Mapping[str, Any]) -> bool:
    """Whether a node is a function of LangGraph's create_react_agent or LangChain's create_agent, 1.0 of which says no
    more of itself.
    """
    for name in ("agent", "model"):
        if name not in nodes:
            continue
        bound = getattr(nodes[name], "bound", None)
        funcs = [getattr(step, "func", None) for step in getattr(bound, "steps", None) or [bound]]
        if any(getattr(func, "__qualname__", "").startswith(_PREBUILT) for func in funcs):
            return True
    return False


_PREBUILT: Final = ("create_react_agent", "create_agent")


def _storing(original: Any) -> Any:
    """The loop is about to store a checkpoint, if it has anywhere to store it: our ids go into its metadata."""

    @functools.wraps(original)
    def _put_checkpoint(loop: Any, metadata: Any, *more: Any, **kwargs: Any) -> Any:
        if getattr(loop, "checkpointer", None) is not None:
            _mark(loop, metadata)
        return original(loop, metadata, *more, **kwargs)

    return _put_checkpoint


def _mark(loop: Any, metadata: Any) -> None:
    if (live := ledger.own(_run(loop))) is not None:
        with _looking:
            context = live.span.get_span_context()
            if context.is_valid:
                metadata[TRACE] = f"{context.trace_id:032x}-{context.span_id:016x}"
                _event(live, "checkpoint.write", loop, metadata)


def _event(live: Live, name: str, loop: Any, metadata: Mapping[str, Any]) -> None:
    told = {"step": metadata.get("step", get(loop, "step")), "source": metadata.get("source")}
    live.span.add_event(name, {f"mlspan.langgraph.{key}": value for key, value in told.items() if value is not None})


def _context(text: Any) -> SpanContext | None:
    try:
        trace_id, span_id = (int(part, 16) for part in text.split("-"))
    except (AttributeError, ValueError):
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _writing(original: Any) -> Any:
    """A task has written to channels, by which others are triggered."""

    @functools.wraps(original)
    def put_writes(loop: Any, task_id: Any, writes: Any, *more: Any, **kwargs: Any) -> Any:
        result = original(loop, task_id, writes, *more, **kwargs)
        if edges and (known := edges.get(_run(loop))) is not None:
            with _looking:
                known.wrote(task_id, writes)
        return result

    return put_writes


def _install(_: Hook) -> Undo:
    patches = {"_first": _beginning, "_put_checkpoint": _storing, "put_writes": _writing}
    targets = [(f"{loop}.{name}", made) for loop in _LOOPS for name, made in patches.items()]
    return all_there((target, functools.partial(replace, target, made)) for target, made in targets)


_LOOPS: Final = (_LOOP, _LOOP_BEFORE_0_6)
HOOK: Final = Hook("langgraph>=0.6,<2", "langgraph.pregel", _install)  # langgraph itself is a namespace: no module
