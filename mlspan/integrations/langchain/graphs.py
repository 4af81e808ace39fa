"""Graphs of LangGraph: links from node to node, links from a resumed run to the interrupted one, checkpoint events.

LangGraph's callbacks do not report these. So the loop that drives a graph, ``PregelLoop``, is patched where it takes
its first step, where it commits the writes of a task, and where it stores a checkpoint. The ids of an interrupted run's
span are put into the metadata of its checkpoint. The run that resumes it, in the same process or another, finds them
there and links to it.

If LangGraph lacks one of these private methods, links and events are missing; the spans are still recorded.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.trace import SpanContext, TraceFlags

from ..._guard import guard
from ..._shape import get
from ...hooks.hook import Hook
from ...hooks.patching import Undo, all_there, replace
from ...hooks.run_registry import Ledger
from ...tracing.operations import semconv as sc
from ...tracing.operations.operation import Live
from ...tracing.operations.records import Agent, Named, Step, Workflow

ledger: Final = Ledger()  # all open runs of LangChain, graphs and nodes included


def number(run_id: Any) -> Any:
    """Return the key of a run: the UUID's integer, as the hash of a UUID is computed in slow Python code."""
    return getattr(run_id, "int", run_id)


TRACE: Final = "mlspan_trace"  # key in a checkpoint's metadata; its value is "<trace id>-<span id>" in hex
_LOOP: Final = "langgraph.pregel._loop:PregelLoop"
_LOOP_BEFORE_0_6: Final = "langgraph.pregel.loop:PregelLoop"


class _Sender(NamedTuple):
    """A task that a node has sent with ``Send``, and the span of the node that sent it."""

    path: str
    order: int
    target: str
    context: SpanContext


class _Edges:
    """The channels of one graph run, with the spans that wrote to them, from which later nodes get their links."""

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[SpanContext, Any]] = {}  # task id -> its span, and its path in the graph
        self._writers: dict[str, list[SpanContext]] = defaultdict(list)  # by channel
        self._read: set[str] = set()  # channels that have triggered a task since they were last written to
        self._sent: list[_Sender] = []
        self._sent_read = False

    def wrote(self, task_id: str, writes: Any) -> None:
        """Note the *writes* of a task, pairs of channel and value."""
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
        """Return the spans of the nodes that led to a task, given its trigger channels and its path."""
        if isinstance(path, (tuple, list)) and path and path[0] == "__pregel_push" and len(path) > 1:
            self._sent_read = True
            sent = sorted(self._sent, key=lambda one: (one.path, one.order))
            index = path[1] if isinstance(path[1], int) else len(sent)
            return [sent[index].context] if index < len(sent) else []
        self._read.update(triggers)
        return [context for channel in triggers for context in self._writers.get(channel, ())]


def _place(path: Any) -> str:
    """Return a path as text that sorts in the order in which LangGraph sorts paths."""
    if isinstance(path, (tuple, list)):
        return "~" + ", ".join(_place(one) for one in path)
    return f"{path:010d}" if isinstance(path, int) else str(path)


_looking: Final = guard("looking at a graph")
edges: Final[dict[Any, _Edges]] = {}  # open run of a graph -> its edges


def started(parent: Any, operation: Live, metadata: Mapping[str, Any]) -> None:
    """Link a node's run, which has just started, to the nodes that triggered it.

    Args:
        parent: the key of the graph's run.
        operation: the operation of the node.
        metadata: the metadata of the node's run, with LangGraph's ``langgraph_`` entries.
    """
    if not edges or (known := edges.get(parent)) is None:
        return
    if type(operation.record) is not Step or operation.record.type != "node":
        return
    task_id = str(metadata.get("langgraph_checkpoint_ns", "")).rpartition("|")[2].rpartition(":")[2]
    path = metadata.get("langgraph_path")
    for context in known.triggered(metadata.get("langgraph_triggers") or (), path):
        operation.span.add_link(context, {sc.LINK: "triggered_by"})
    known.tasks[task_id] = (operation.span.get_span_context(), path)


def _run(loop: Any) -> Any:
    """Return the key of the run that *loop* drives; None if it has none."""
    return number(getattr(getattr(loop, "manager", None), "run_id", None))


def _beginning(original: Any) -> Any:
    """Wrap ``PregelLoop._first``, which runs when the loop has read its checkpoint and takes its first step."""

    @functools.wraps(original)
    def first_step(loop: Any, *args: Any, **kwargs: Any) -> Any:
        run_id = _run(loop)
        if (operation := ledger.own(run_id)) is not None:
            _begun(loop, run_id, operation)
        return original(loop, *args, **kwargs)

    return first_step


def _begun(loop: Any, run_id: Any, operation: Live) -> None:
    """Make the run's record that of a graph, and link it to the interrupted run that it resumes, if any."""
    with _looking:
        edges[run_id] = _Edges()
        _be_graph(operation, loop)
        record = operation.record
        if isinstance(record, (Agent, Workflow)) and record.conversation is None:
            thread = (get(get(loop, "config"), "configurable") or {}).get("thread_id")
            record.conversation = None if thread is None else str(thread)
        saved = loop.checkpoint_metadata
        if saved.get("step", -2) > -2:  # the step of an empty checkpoint
            _event(operation, "checkpoint.read", loop, saved)
            waiting = any(write[1] == "__interrupt__" for write in loop.checkpoint_pending_writes or ())
            if (waiting or loop.input is None) and (before := _context(saved.get(TRACE))) is not None:
                operation.span.add_link(before, {sc.LINK: "resumes"})


def _be_graph(operation: Live, loop: Any) -> None:
    """Replace a run's record by that of an agent or a workflow, as only the loop knows for sure that it is a graph."""
    record = operation.record
    if isinstance(record, Agent) or not isinstance(record, Named):
        return
    cls = Agent if _is_prebuilt(get(loop, "nodes") or {}) else Workflow
    if type(record) is not cls:
        name = None if record.name == "LangGraph" else record.name
        operation.record = cls(name=name, input=record.input, extra=record.extra)
        operation.record.conversation = getattr(record, "conversation", None)


def _is_prebuilt(nodes: Mapping[str, Any]) -> bool:
    """Return whether a graph is a prebuilt agent.

    One of its nodes is then a function of LangGraph's ``create_react_agent`` or of LangChain's ``create_agent``, which
    in 1.0 has no other mark.
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
    """Wrap ``PregelLoop._put_checkpoint``, to put our ids into the metadata of a checkpoint before it is stored."""

    @functools.wraps(original)
    def _put_checkpoint(loop: Any, metadata: Any, *more: Any, **kwargs: Any) -> Any:
        if getattr(loop, "checkpointer", None) is not None:
            _mark(loop, metadata)
        return original(loop, metadata, *more, **kwargs)

    return _put_checkpoint


def _mark(loop: Any, metadata: Any) -> None:
    """Put the ids of the run's span into a checkpoint's *metadata*, and note the checkpoint as an event."""
    if (operation := ledger.own(_run(loop))) is not None:
        with _looking:
            context = operation.span.get_span_context()
            if context.is_valid:
                metadata[TRACE] = f"{context.trace_id:032x}-{context.span_id:016x}"
                _event(operation, "checkpoint.write", loop, metadata)


def _event(operation: Live, name: str, loop: Any, metadata: Mapping[str, Any]) -> None:
    """Add an event about a checkpoint to the run's span, with the step and the source of the checkpoint."""
    found = {"step": metadata.get("step", get(loop, "step")), "source": metadata.get("source")}
    operation.span.add_event(
        name, {f"mlspan.langgraph.{key}": value for key, value in found.items() if value is not None}
    )


def _context(text: Any) -> SpanContext | None:
    """Parse ``<trace id>-<span id>`` as it stands in a checkpoint's metadata; None if it is no such text."""
    try:
        trace_id, span_id = (int(part, 16) for part in text.split("-"))
    except (AttributeError, ValueError):
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _writing(original: Any) -> Any:
    """Wrap ``PregelLoop.put_writes``, to note which channels a task has written to, as they trigger other tasks."""

    @functools.wraps(original)
    def put_writes(loop: Any, task_id: Any, writes: Any, *more: Any, **kwargs: Any) -> Any:
        result = original(loop, task_id, writes, *more, **kwargs)
        if edges and (known := edges.get(_run(loop))) is not None:
            with _looking:
                known.wrote(task_id, writes)
        return result

    return put_writes


def _install(_: Hook) -> Undo:
    """Patch the loop at its path in this version of LangGraph."""
    patches = {"_first": _beginning, "_put_checkpoint": _storing, "put_writes": _writing}
    targets = [(f"{loop}.{name}", made) for loop in _LOOPS for name, made in patches.items()]
    return all_there((target, functools.partial(replace, target, made)) for target, made in targets)


_LOOPS: Final = (_LOOP, _LOOP_BEFORE_0_6)
HOOK: Final = Hook("langgraph>=0.6,<2", "langgraph.pregel", _install)  # langgraph itself is a namespace package
