"""Edges of LangGraph as links from node to node, links from a resumed run to the interrupted one, checkpoint events.

LangGraph's callbacks do not report these. So the loop that drives a graph, ``PregelLoop``, is patched where it takes
its first step, where it commits the writes of a task, and where it stores a checkpoint. The ids of an interrupted run's
span are put into the metadata of its checkpoint. The run that resumes it, in the same process or another, finds them
there and links to it.

If LangGraph lacks one of these private methods, links and events are missing; the spans are still recorded.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry import context as otel
from opentelemetry.trace import SpanContext, TraceFlags

from ..._guard import guard
from ..._shape import get_field
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_function
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Agent, NamedRecord, Step, Workflow
from .model_runs import note_reader
from .runnable_records import apply_caller_ids
from .runs import LangChainRun, langchain_runs, make_run_key

TRACE_METADATA_KEY: Final = "mlspan_trace"  # key in a checkpoint's metadata; its value is "<trace id>-<span id>" in hex
_LOOP_CLASS: Final = "langgraph.pregel._loop:PregelLoop"
_LOOP_CLASS_BEFORE_0_6: Final = "langgraph.pregel.loop:PregelLoop"


class _SentTask(NamedTuple):
    """A task that a node has sent with ``Send``, and the span of the node that sent it."""

    sort_key: str
    order: int
    target: str
    context: SpanContext


class GraphEdges:
    """The channels of one graph run, with the spans that wrote to them, from which later nodes get their links."""

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[SpanContext, object]] = {}  # task id -> its span, and its path in the graph
        self._writers: dict[str, list[SpanContext]] = defaultdict(list)  # by channel
        self._read: set[str] = set()  # channels that have triggered a task since they were last written to
        self._sent: list[_SentTask] = []
        self._sent_read = False

    def note_writes(self, task_id: str, writes: Any) -> None:
        """Note the *writes* of a task, pairs of channel and value."""
        if task_id not in self.tasks:
            return
        context, path = self.tasks[task_id]
        for channel, value in writes:
            if channel == "__pregel_tasks":
                if self._sent_read:
                    self._sent, self._sent_read = [], False
                place = _format_sort_key(path[:3]) if isinstance(path, (tuple, list)) else str(path)
                self._sent.append(_SentTask(place, len(self._sent), str(get_field(value, "node")), context))
            elif channel.startswith(("branch:", "join:")):
                if channel in self._read:
                    self._read.discard(channel)
                    self._writers[channel] = []
                self._writers[channel].append(context)

    def find_triggering_spans(self, triggers: Any, path: object) -> list[SpanContext]:
        """Return the spans of the nodes that led to a task, given its trigger channels and its path."""
        if isinstance(path, (tuple, list)) and path and path[0] == "__pregel_push" and len(path) > 1:
            self._sent_read = True
            sent = sorted(self._sent, key=lambda one: (one.sort_key, one.order))
            index = path[1] if isinstance(path[1], int) else len(sent)
            return [sent[index].context] if index < len(sent) else []
        self._read.update(triggers)
        return [context for channel in triggers for context in self._writers.get(channel, ())]


def _format_sort_key(path: object) -> str:
    """Return a path as text that sorts in the order in which LangGraph sorts paths."""
    if isinstance(path, (tuple, list)):
        return "~" + ", ".join(_format_sort_key(one) for one in path)
    return f"{path:010d}" if isinstance(path, int) else str(path)


_graph_guard: Final = guard("looking at a graph")


def link_node_run(parent: object, operation: Operation, metadata: Mapping[str, object]) -> None:
    """Link a node's run, which has just started, to the nodes that triggered it.

    Args:
        parent: the key of the graph's run.
        operation: the operation of the node.
        metadata: the metadata of the node's run, with LangGraph's ``langgraph_`` entries.
    """
    if type(operation.record) is not Step or operation.record.type != "node":
        return
    if (run := langchain_runs.find_run(parent)) is None or (known := run.edges) is None:
        return
    task_id = str(metadata.get("langgraph_checkpoint_ns", "")).rpartition("|")[2].rpartition(":")[2]
    path = metadata.get("langgraph_path")
    for context in known.find_triggering_spans(metadata.get("langgraph_triggers") or (), path):
        operation.record.add_cause("triggered_by", context)
    known.tasks[task_id] = (operation.span.get_span_context(), path)


def _read_run_key(loop: object) -> object:
    """Return the key of the run that *loop* drives; None if it has none."""
    return make_run_key(getattr(getattr(loop, "manager", None), "run_id", None))


def _wrap_first_step(original: Any) -> object:
    """Wrap ``PregelLoop._first``, which runs when the loop has read its checkpoint and takes its first step."""

    @functools.wraps(original)
    def first_step(loop: Any, *args: Any, **kwargs: Any) -> object:
        run_id = _read_run_key(loop)
        run = langchain_runs.find_run(run_id)
        if run is not None and run.operation is not None:
            _start_graph_run(loop, run, run.operation)
        return original(loop, *args, **kwargs)

    return first_step


def _start_graph_run(loop: Any, run: LangChainRun, operation: Operation) -> None:
    """Make the run's record that of a graph, and link it to the interrupted run that it resumes, if any."""
    with _graph_guard:
        run.edges = GraphEdges()
        _set_graph_record(operation, loop)
        record = operation.record
        if isinstance(record, (Agent, Workflow)) and record.conversation is None:
            thread = (get_field(get_field(loop, "config"), "configurable") or {}).get("thread_id")
            record.conversation = None if thread is None else str(thread)
        saved = loop.checkpoint_metadata
        if saved.get("step", -2) > -2:  # the step of an empty checkpoint
            _add_checkpoint_event(operation, "checkpoint.read", loop, saved)
            waiting = any(write[1] == "__interrupt__" for write in loop.checkpoint_pending_writes or ())
            if (waiting or loop.input is None) and (
                before := _parse_span_context(saved.get(TRACE_METADATA_KEY))
            ) is not None:
                record.add_cause("resumes", before)


def _set_graph_record(operation: Operation, loop: object) -> None:
    """Replace a run's record by that of an agent or a workflow, as only the loop knows for sure that it is a graph."""
    record = operation.record
    if isinstance(record, Agent) or not isinstance(record, NamedRecord):
        return
    cls = Agent if _is_prebuilt_agent(get_field(loop, "nodes") or {}) else Workflow
    if type(record) is not cls:
        name = None if record.name == "LangGraph" else record.name
        operation.record = cls(name=name, input=record.input, extra=record.extra)
        operation.record.copy_links(record)
        operation.record.conversation = getattr(record, "conversation", None)


def _is_prebuilt_agent(nodes: Mapping[str, object]) -> bool:
    """Return whether a graph is a prebuilt agent.

    One of its nodes is then a function of LangGraph's ``create_react_agent`` or of LangChain's ``create_agent``, which
    in 1.0 has no other mark.
    """
    for name in ("agent", "model"):
        if name not in nodes:
            continue
        bound = getattr(nodes[name], "bound", None)
        funcs = [getattr(step, "func", None) for step in getattr(bound, "steps", None) or [bound]]
        if any(getattr(func, "__qualname__", "").startswith(_PREBUILT_FUNCTIONS) for func in funcs):
            return True
    return False


_PREBUILT_FUNCTIONS: Final = ("create_react_agent", "create_agent")


def _wrap_put_checkpoint(original: Any) -> object:
    """Wrap ``PregelLoop._put_checkpoint``, to put our ids into the metadata of a checkpoint before it is stored."""

    @functools.wraps(original)
    def _put_checkpoint(loop: object, metadata: object, *more: object, **kwargs: object) -> object:
        if getattr(loop, "checkpointer", None) is not None:
            _mark_checkpoint(loop, metadata)
        return original(loop, metadata, *more, **kwargs)

    return _put_checkpoint


def _mark_checkpoint(loop: object, metadata: Any) -> None:
    """Put the ids of the run's span into a checkpoint's *metadata*, and note the checkpoint as an event."""
    if (operation := langchain_runs.find_own_operation(_read_run_key(loop))) is not None:
        with _graph_guard:
            context = operation.span.get_span_context()
            if context.is_valid:
                metadata[TRACE_METADATA_KEY] = f"{context.trace_id:032x}-{context.span_id:016x}"
                _add_checkpoint_event(operation, "checkpoint.write", loop, metadata)


def _add_checkpoint_event(operation: Operation, name: str, loop: object, metadata: Mapping[str, Any]) -> None:
    """Add an event about a checkpoint to the run's span, with the step and the source of the checkpoint."""
    found = {"step": metadata.get("step", get_field(loop, "step")), "source": metadata.get("source")}
    operation.span.add_event(
        name, {f"mlspan.langgraph.{key}": value for key, value in found.items() if value is not None}
    )


def _parse_span_context(text: Any) -> SpanContext | None:
    """Parse ``<trace id>-<span id>`` as it stands in a checkpoint's metadata; None if it is no such text."""
    try:
        trace_id, span_id = (int(part, 16) for part in text.split("-"))
    except (AttributeError, ValueError):
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _wrap_put_writes(original: Any) -> object:
    """Wrap ``PregelLoop.put_writes``, to note which channels a task has written to, as they trigger other tasks."""

    @functools.wraps(original)
    def put_writes(loop: Any, task_id: Any, writes: Any, *more: object, **kwargs: object) -> object:
        result = original(loop, task_id, writes, *more, **kwargs)
        run = langchain_runs.find_run(_read_run_key(loop))
        if run is not None and run.edges is not None:
            with _graph_guard:
                run.edges.note_writes(task_id, writes)
        return result

    return put_writes


def make_span_current(original: Callable[..., object]) -> Callable[..., object]:
    """Wrap LangChain's ``_set_config_context``, so that a run's span is current in the context of the run's code.

    The context is a copy that LangChain makes for the run, so nothing has to be detached. If LangChain has no such
    function, spans that user code starts inside of a run stand below the caller's span instead.
    """

    @functools.wraps(original)
    def set_config_context(config: Any, *rest: object) -> object:
        result = original(config, *rest)
        operation = langchain_runs.find_operation(make_run_key(getattr(config.get("callbacks"), "parent_run_id", None)))
        if operation is not None:
            if told := config.get("configurable"):
                with _graph_guard:
                    apply_caller_ids(operation.record, told)
            otel.attach(operation.context)
        return result

    return set_config_context


def _install_loop_patches(_: Hook) -> Undo:
    """Patch the loop at its path in this version of LangGraph, and the context that its nodes run in."""
    patches = [
        Patch(
            f"{_LOOP_CLASS}.{name} {_LOOP_CLASS_BEFORE_0_6}.{name}",
            functools.partial(replace_function, make=make),
            loss,
        )
        for name, make, loss in (
            ("_first", _wrap_first_step, "that a run is one of a graph, its links and its checkpoints"),
            ("_put_checkpoint", _wrap_put_checkpoint, "checkpoints as events, and the link of a run that goes on"),
            ("put_writes", _wrap_put_writes, "the links between the nodes of a graph"),
        )
    ]
    where = "langgraph._internal._runnable:_set_config_context langgraph.utils.runnable:_set_config_context"
    loss = "that spans of user code in a node stand below the node"
    lost_reader = "that a graph whose events are read no further has not failed"
    return apply_patches(
        [
            *patches,
            Patch(where, functools.partial(replace_function, make=make_span_current), loss),
            Patch(
                "langgraph.pregel:Pregel.astream", functools.partial(replace_function, make=note_reader), lost_reader
            ),
        ]
    )


HOOK: Final = Hook(
    "langgraph>=0.6,<2", "langgraph.pregel", _install_loop_patches
)  # langgraph itself is a namespace package
