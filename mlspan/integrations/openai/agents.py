"""OpenAI's Agents SDK, by a tracing processor that is added to those the user has."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Any, Final

from ..._guard import guard
from ..._private_names import report_missing_name
from ..._shape import get_field, get_list, get_nested
from ...hooks.hook import Hook
from ...hooks.openai_format import dump_model
from ...hooks.patching import Patch, Undo, apply_patches, remember_undo
from ...hooks.requests import read_usage
from ...hooks.run_registry import Run, RunRegistry
from ...tracing.operations import semconv as sc
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.messages import Message, Part, parse_json
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Agent, Chat, NamedRecord, Record, Step, Tool, Workflow
from ...tracing.runtime import get_runtime
from . import responses

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_multi_processor": "its list of processors keeps mlspan's when autolog is turned off, where it does nothing",
    "_processors": "its list of processors keeps mlspan's when autolog is turned off, where it does nothing",
}

_SPANLESS_TYPES: Final = {
    "task",
    "turn",
}  # types of SDK spans that add nothing to the agent's own span, and get none here


class AgentsTracingProcessor:
    """Tracing processor of the Agents SDK that turns its traces and spans into operations.

    The SDK calls it in the thread and task of the traced code, so that a started span can be made current.
    """

    def __init__(self, hook: Hook) -> None:
        self.on = True
        self._hook, self._ledger = hook, RunRegistry(Run)
        self._asked: dict[tuple[str, str, str], str] = {}  # (trace id, tool name, arguments) -> tool call id
        self._lock = threading.Lock()

    def on_trace_start(self, trace: Any) -> None:
        if self.on and self._hook.settings.log_traces:
            with guard("starting a span"):
                group = get_field(trace, "group_id")
                record = Workflow(name=get_field(trace, "name"), conversation=group if isinstance(group, str) else None)
                self._ledger.start_operation(trace.trace_id, record)
                self._ledger.enter_run(trace.trace_id)

    def on_trace_end(self, trace: Any) -> None:
        with guard("ending a span"), self._lock:
            for key in [key for key in self._asked if key[0] == trace.trace_id]:
                del self._asked[key]
        self._ledger.end_operation(trace.trace_id)

    def on_span_start(self, span: Any) -> None:
        if not self.on or not self._hook.settings.log_traces:
            return
        with guard("starting a span"):
            data, parent = span.span_data, span.parent_id or span.trace_id
            if data.type in _SPANLESS_TYPES:
                self._ledger.fold_run(span.span_id, parent)
            elif (record := _make_record(data)) is not None:
                self._ledger.start_operation(span.span_id, record, parent=parent)
                self._ledger.enter_run(span.span_id)

    def on_span_end(self, span: Any) -> None:
        with guard("ending a span"):
            operation = self._ledger.find_operation(span.span_id)
            if operation is not None and span.span_data.type not in _SPANLESS_TYPES:
                self._read_span(span, operation)
        self._ledger.end_operation(span.span_id)

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...

    def _read_span(self, span: Any, operation: Operation) -> None:
        """Read an SDK span that has ended into the record of its operation."""
        now, record, data = get_runtime(), operation.record, span.span_data
        if (error := span.error) is not None:
            record.failure = (
                str(get_field(get_field(error, "data") or {}, "error_type") or "_OTHER"),
                str(get_field(error, "message")),
            )
        capture_content = now is not None and now.policy.capture
        if data.type == "guardrail":
            record.extra["mlspan.guardrail.triggered"] = bool(data.triggered)
        if data.type == "handoff" and isinstance(record, Step):
            record.output = {"from": data.from_agent, "to": data.to_agent}
        if isinstance(record, Chat):
            self._read_chat(span, record, capture_content=capture_content)
        elif isinstance(record, Tool):
            asked = data.input if isinstance(data.input, str) else ""
            with self._lock:
                record.call_id = self._asked.pop((span.trace_id, data.name, asked), None)
            if capture_content:
                record.input, record.output = parse_json(asked) if asked else None, to_plain_data(data.output)

    def _read_chat(self, span: Any, chat: Chat, *, capture_content: bool) -> None:
        """Read a call to a model; *capture_content* says whether content is recorded."""
        data = span.span_data
        if data.type == "response" and data.response is not None:
            responses.observe_response(chat, data.response)
            chat.model = chat.model or chat.response_model
            if capture_content:
                chat.input = responses.read_input_messages(data.input)
            for item in get_list(data.response, "output"):
                self._note_tool_call(span, item)
        elif data.type == "generation":
            _read_generation(chat, data, capture_content=capture_content)
            for message in data.output or ():
                for item in get_list(
                    message, "output"
                ):  # the SDK reports a streamed chat in the Responses API's format
                    self._note_tool_call(span, item)
                for call in get_field(message, "tool_calls") or ():
                    self._note_tool_call(
                        span, {"call_id": get_field(call, "id"), **(dump_model(get_field(call, "function")) or {})}
                    )
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
        model = get_field(data, "model")
        return Chat(provider="openai", model=model if isinstance(model, str) else None, outer=True)
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


def _read_generation(chat: Chat, data: Any, *, capture_content: bool) -> None:
    usage = data.usage if isinstance(data.usage, Mapping) else {}
    read_usage(chat, usage, {"input_tokens": "input_tokens", "output_tokens": "output_tokens"})
    if capture_content:
        chat.input = [_read_text_message(message) for message in data.input or ()]
    for index, message in enumerate(data.output or ()):
        if get_field(message, "object") == "response":
            responses.observe_response(
                chat, {"status": "completed", **{k: v for k, v in message.items() if v is not None}}
            )
            continue
        choice = chat.draft.get_choice(index)
        choice.finish_reason = "tool_calls" if get_field(message, "tool_calls") else "stop"
        if isinstance(text := get_field(message, "content"), str):
            choice.add_text(text)
        for slot, call in enumerate(get_field(message, "tool_calls") or ()):
            arguments = get_nested(call, "function.arguments", str)
            choice.add_tool_call(slot, get_nested(call, "id", str), get_nested(call, "function.name", str), arguments)


def _read_text_message(message: object) -> Message:
    """Read a message of a generation; content that is no string becomes text."""
    content = get_field(message, "content")
    part: Part = {"type": "text", "content": content if isinstance(content, str) else str(content or "")}
    return {"role": get_nested(message, "role", str) or "user", "parts": [part]}


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
    loss = "runs of agents"
    return apply_patches([Patch("agents:add_trace_processor", functools.partial(_add_processor, hook), loss)])


def _add_processor(hook: Hook, _target: str) -> Undo:
    """Add our processor to the SDK's.

    The SDK has no public way to remove one. If its private list of processors is gone, ours stays and does nothing.
    """
    import agents

    processor: Any = AgentsTracingProcessor(hook)
    agents.add_trace_processor(processor)

    def undo() -> None:
        processor.on = False
        several = getattr(agents.tracing.get_trace_provider(), "_multi_processor", None)
        others = getattr(several, "_processors", None)
        if others is not None and hasattr(several, "set_processors"):
            several.set_processors([other for other in others if other is not processor])  # type: ignore[union-attr]
        else:
            name = "_multi_processor" if several is None else "_processors"
            report_missing_name("the Agents SDK", name, PRIVATE_NAMES[name])

    return remember_undo(undo)
