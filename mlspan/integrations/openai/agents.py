"""OpenAI's Agents SDK, by a tracing processor that is added to those the user has."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from typing import Any, Final

from ..._guard import guard
from ..._private_names import report_missing_name
from ..._shape import get_field, get_nested
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, remember_undo, replace_function
from ...hooks.run_registry import Run, RunRegistry
from ...tracing.operations import semconv as sc
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.exceptions import get_error_type
from ...tracing.operations.messages import Message, parse_json
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Agent, Chat, NamedRecord, Record, Step, Tool, Workflow
from ...tracing.runtime import get_runtime
from . import agent_models as _models
from .agent_models import REDACTED_MESSAGE, read_span_error
from .agent_requests import REQUEST_PATCHES, get_agent_request
from .agent_streams import STREAM_PATCH, is_unread_run

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_multi_processor": "its list of processors keeps mlspan's when autolog is turned off, where it does nothing",
    "_processors": "its list of processors keeps mlspan's when autolog is turned off, where it does nothing",
}

_SPANLESS_TYPES: Final = {
    "task",
    "turn",
}  # types of SDK spans that add nothing to the agent's own span, and get none here


class AgentsRun(Run):
    """A trace or span of the SDK that is open.

    Attributes:
        handled: the exception that was being handled when it started; None if there was none.
        failure: of a trace, error type and text of its last agent; None if that has succeeded.
        withholds: of a trace, whether the user wants no sensitive data in it.
    """

    __slots__ = ("failure", "handled", "withholds")

    def __init__(self, parent: object, operation: Operation | None = None) -> None:
        super().__init__(parent, operation)
        self.handled: BaseException | None = None
        self.failure: tuple[str, str] | None = None
        self.withholds = False


class AgentsTracingProcessor:
    """Tracing processor of the Agents SDK that turns its traces and spans into operations.

    The SDK calls it in the thread and task of the traced code, so that a started span can be made current.
    """

    def __init__(self, hook: Hook) -> None:
        self.on = True
        self._hook, self._ledger = hook, RunRegistry(AgentsRun)
        self._asked: dict[tuple[str, str, str], str] = {}  # (trace id, tool name, arguments) -> tool call id
        self._descriptions: dict[tuple[str, str], str] = {}  # (trace id, tool name) -> what the tool is for
        self._lock = threading.Lock()

    def on_trace_start(self, trace: Any) -> None:
        if self.on and self._hook.settings.log_traces:
            with guard("starting a span"):
                group = get_field(trace, "group_id")
                record = Workflow(name=get_field(trace, "name"), conversation=group if isinstance(group, str) else None)
                self._start_operation(trace.trace_id, record)

    def on_trace_end(self, trace: Any) -> None:
        with guard("ending a span"), self._lock:
            for key in [key for key in self._asked if key[0] == trace.trace_id]:
                del self._asked[key]
            for name in [name for name in self._descriptions if name[0] == trace.trace_id]:
                del self._descriptions[name]
        self._end_operation(trace.trace_id, trace.trace_id)

    def on_span_start(self, span: Any) -> None:
        if not self.on or not self._hook.settings.log_traces:
            return
        with guard("starting a span"):
            data, parent = span.span_data, span.parent_id or span.trace_id
            if data.type in _SPANLESS_TYPES:
                self._ledger.fold_run(span.span_id, parent)
            elif (record := _make_record(data)) is not None:
                self._add_request(span.trace_id, record)
                self._start_operation(span.span_id, record, parent)

    def on_span_end(self, span: Any) -> None:
        with guard("ending a span"):
            operation = self._ledger.find_operation(span.span_id)
            if operation is not None and span.span_data.type not in _SPANLESS_TYPES:
                self._read_span(span, operation)
                if span.span_data.type == "agent":
                    self._note_outcome(span, operation)
        self._end_operation(span.span_id, span.trace_id)

    def _add_request(self, trace_id: str, record: Record) -> None:
        """Add to a call's *record* what its request says, or to a tool's what an earlier request has said of it."""
        if isinstance(record, Tool):
            record.description = self._descriptions.get((trace_id, record.name or ""))
        elif isinstance(record, Chat) and (request := get_agent_request()) is not None:
            for name, value in request.fields.items():
                setattr(record, name, value)
            with self._lock:
                self._descriptions.update(((trace_id, name), said) for name, said in request.tools.items())

    def _start_operation(self, id: str, record: Record, parent: str | None = None) -> None:
        """Start the operation of a trace or span of the SDK, and make its span current."""
        if self._ledger.start_operation(id, record, parent=parent) is not None:
            run = self._ledger.find_run(id)
            if run is not None:
                run.handled = sys.exc_info()[1]
            self._ledger.enter_run(id)

    def _end_operation(self, id: str, trace_id: str) -> None:
        """End the operation of a trace or span of the SDK.

        The SDK ends it while the exception that has failed it is on its way, and tells us a text at most. An exception
        that was being handled already when the operation started is the caller's own.
        """
        run, error, trace = self._ledger.find_run(id), sys.exc_info()[1], self._ledger.find_run(trace_id)
        if run is None or run.operation is None or error is run.handled:
            error = None
        record = None if run is None or run.operation is None else run.operation.record
        if (
            record is not None
            and error is not None
            and trace is not None
            and trace.withholds
            and isinstance(error, Exception)
        ):
            record.failure, error = (get_error_type(error), REDACTED_MESSAGE), None
        if record is not None and error is None and record.failure is None and run is not None:
            record.failure = run.failure
        if run is not None:
            run.handled = None
        if isinstance(error, asyncio.CancelledError) and is_unread_run():
            self._ledger.end_operation(id, stream_end="closed")
        else:
            self._ledger.end_operation(id, error)

    def _note_outcome(self, span: Any, operation: Operation) -> None:
        """Note on the run how its last agent has ended: a streamed run is over before its reader is told the error."""
        if (run := self._ledger.find_run(span.trace_id)) is None:
            return
        above = self._ledger.find_operation(span.parent_id or span.trace_id)
        if above is run.operation or above is operation:
            run.failure = operation.record.failure

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...

    def _read_span(self, span: Any, operation: Operation) -> None:
        """Read an SDK span that has ended into the record of its operation."""
        now, record, data = get_runtime(), operation.record, span.span_data
        if (error := span.error) is not None:
            record.failure = read_span_error(error)
        capture_content = now is not None and now.policy.capture
        if data.type == "guardrail":
            record.extra["mlspan.guardrail.triggered"] = bool(data.triggered)
        if data.type == "handoff" and isinstance(record, Step):
            record.output = {"from": data.from_agent, "to": data.to_agent}
        if isinstance(record, Chat):
            self._read_model_call(span, record, capture_content=capture_content)
        elif isinstance(record, Tool):
            asked = data.input if isinstance(data.input, str) else ""
            with self._lock:
                record.call_id = self._asked.pop((span.trace_id, data.name, asked), None)
            if capture_content:
                record.input, record.output = parse_json(asked) if asked else None, to_plain_data(data.output)

    def _read_model_call(self, span: Any, chat: Chat, *, capture_content: bool) -> None:
        """Read a call to a model; *capture_content* says whether content is recorded."""
        data = span.span_data
        withheld = _models.is_content_withheld(span)
        if withheld:  # the client knows it all the same
            chat.withhold_content()
            if (run := self._ledger.find_run(span.trace_id)) is not None:
                run.withholds = True
        capture_content = capture_content and not withheld
        for item in _models.read_model_span(chat, data, capture_content=capture_content):
            self._note_tool_call(span, item)
        if capture_content:
            self._update_callers(span, chat)

    def _note_tool_call(self, span: Any, item: object) -> None:
        """Remember the id of a tool call, as the span of the tool itself has none."""
        call_id, name, arguments = (get_nested(item, key, str) for key in ("call_id", "name", "arguments"))
        if call_id and name:
            with self._lock:
                self._asked[span.trace_id, name, arguments or ""] = call_id

    def _update_callers(self, span: Any, chat: Chat) -> None:
        """Give the agent and the run above a call their input, from the first call, and output, from the last."""
        said = chat.draft.build_messages()
        for id in (span.parent_id, span.trace_id):
            above = self._ledger.find_operation(id)
            if (
                above is not None
                and isinstance(record := above.record, NamedRecord)
                and isinstance(record, (Agent, Workflow))
            ):
                if record.input is None:
                    record.input = _find_last_text(chat.input, "user")
                record.output = _find_last_text(said, "assistant") or record.output


def _make_record(data: Any) -> Record | None:
    """Return the record of an SDK span by the type of its data."""
    kind = data.type
    if kind == "agent":
        return Agent(name=data.name)
    if kind == "function":
        return Tool(name=data.name, type="extension" if get_field(data, "mcp_data") else "function")
    if kind in {"generation", "response"}:
        return _models.make_model_record(data)
    if kind in {"transcription", "speech"}:
        model, output_type = get_nested(data, "model", str), "speech" if kind == "speech" else "text"
        return Chat(operation=sc.GENERATE_CONTENT, provider="openai", model=model, output_type=output_type, outer=True)
    if kind == "handoff":
        return Step(type=kind, name=f"handoff from {data.from_agent}")
    if kind == "guardrail":
        return Step(type=kind, name=data.name)
    if kind == "mcp_tools":
        return Step(type=kind, name=f"list tools of {get_field(data, 'server')}")
    return Step(type=kind, name=str(get_field(data, "name") or kind))


def _find_last_text(messages: list[Message] | None, role: str) -> str | None:
    """Return the text of the last message from *role* that has any."""
    for message in reversed(messages or ()):
        if message.get("role") == role:
            texts = [str(part.get("content", "")) for part in message["parts"] if part["type"] == "text"]
            if texts:
                return "\n".join(texts)
    return None


def install(hook: Hook) -> Undo:
    """Add our tracing processor to the SDK's, and return the function that removes it."""
    return apply_patches(
        [
            Patch(
                "agents:add_trace_processor",
                functools.partial(_add_processor, hook),
                "runs of agents",
                is_required=True,
            ),
            *REQUEST_PATCHES,
            STREAM_PATCH,
        ]
    )


def _add_processor(hook: Hook, _target: str) -> Undo:
    """Add our processor to the SDK's, where it stays when the user replaces theirs.

    The SDK has no public way to remove one. If its private list of processors is gone, ours stays and does nothing.
    """
    import agents

    processor: Any = AgentsTracingProcessor(hook)
    agents.add_trace_processor(processor)
    keep = functools.partial(_keep_processor, processor)
    target = "agents.tracing.provider:DefaultTraceProvider.set_processors"
    replace = functools.partial(replace_function, make=keep)
    forget = apply_patches([Patch(target, replace, "runs of agents after set_trace_processors", is_optional=True)])

    def undo() -> None:
        processor.on = False
        forget()
        several = getattr(agents.tracing.get_trace_provider(), "_multi_processor", None)
        others = getattr(several, "_processors", None)
        if others is not None and hasattr(several, "set_processors"):
            several.set_processors([other for other in others if other is not processor])  # type: ignore[union-attr]
        else:
            name = "_multi_processor" if several is None else "_processors"
            report_missing_name("the Agents SDK", name, PRIVATE_NAMES[name])

    return remember_undo(undo)


def _keep_processor(ours: Any, original: Any) -> object:
    """Wrap the provider's ``set_processors``: the user's list takes the place of theirs, and ours is kept."""

    @functools.wraps(original)
    def set_processors(provider: object, processors: Any) -> object:
        if ours.on and not any(one is ours for one in processors):
            processors = [*processors, ours]
        return original(provider, processors)

    return set_processors
