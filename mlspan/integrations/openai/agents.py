"""OpenAI's Agents SDK, by a tracing processor that is added to those the user has."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from ..._guard import guard
from ..._shape import dig, get, items
from ...hooks.hook import Hook
from ...hooks.openai_format import plain
from ...hooks.patching import Undo
from ...hooks.run_registry import Ledger
from ...tracing.operations import semconv as sc
from ...tracing.operations.content import snapshot
from ...tracing.operations.messages import Message, Part, loads
from ...tracing.operations.operation import Live
from ...tracing.operations.records import Agent, Chat, Named, Record, Step, Tool, Workflow
from ...tracing.runtime import runtime
from . import responses
from ._read import count

_FOLDED: Final = {"task", "turn"}  # types of SDK spans that add nothing to the agent's own span, and get none here


class Processor:
    """Tracing processor of the Agents SDK that turns its traces and spans into operations.

    The SDK calls it in the thread and task of the traced code, so that a started span can be made current.
    """

    def __init__(self, hook: Hook) -> None:
        self.on = True
        self._hook, self._ledger = hook, Ledger()
        self._asked: dict[tuple[str, str, str], str] = {}  # (trace id, tool name, arguments) -> tool call id
        self._lock = threading.Lock()

    def on_trace_start(self, trace: Any) -> None:
        if self.on and self._hook.settings.log_traces:
            with guard("starting a span"):
                group = get(trace, "group_id")
                record = Workflow(name=get(trace, "name"), conversation=group if isinstance(group, str) else None)
                self._ledger.start(trace.trace_id, record)
                self._ledger.enter(trace.trace_id)

    def on_trace_end(self, trace: Any) -> None:
        with guard("ending a span"), self._lock:
            for key in [key for key in self._asked if key[0] == trace.trace_id]:
                del self._asked[key]
        self._ledger.end(trace.trace_id)

    def on_span_start(self, span: Any) -> None:
        if not self.on or not self._hook.settings.log_traces:
            return
        with guard("starting a span"):
            data, parent = span.span_data, span.parent_id or span.trace_id
            if data.type in _FOLDED:
                self._ledger.fold(span.span_id, parent)
            elif (record := _record(data)) is not None:
                self._ledger.start(span.span_id, record, parent=parent)
                self._ledger.enter(span.span_id)

    def on_span_end(self, span: Any) -> None:
        with guard("ending a span"):
            operation = self._ledger.get(span.span_id)
            if operation is not None and span.span_data.type not in _FOLDED:
                self._read(span, operation)
        self._ledger.end(span.span_id)

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...

    def _read(self, span: Any, operation: Live) -> None:
        """Read an SDK span that has ended into the record of its operation."""
        now, record, data = runtime(), operation.record, span.span_data
        if (error := span.error) is not None:
            record.failure = (str(get(get(error, "data") or {}, "error_type") or "_OTHER"), str(get(error, "message")))
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
                record.input, record.output = loads(asked) if asked else None, snapshot(data.output)

    def _read_chat(self, span: Any, chat: Chat, *, capture_content: bool) -> None:
        """Read a call to a model; *capture_content* says whether content is recorded."""
        data = span.span_data
        if data.type == "response" and data.response is not None:
            responses.observe(chat, data.response)
            chat.model = chat.model or chat.response_model
            if capture_content:
                chat.input = responses.messages(data.input)
            for item in items(data.response, "output"):
                self._ask(span, item)
        elif data.type == "generation":
            _read_generation(chat, data, capture_content=capture_content)
            for message in data.output or ():
                for item in items(message, "output"):  # the SDK reports a streamed chat in the Responses API's format
                    self._ask(span, item)
                for call in get(message, "tool_calls") or ():
                    self._ask(span, {"call_id": get(call, "id"), **(plain(get(call, "function")) or {})})
        if capture_content:
            self._tell_above(span, chat)

    def _ask(self, span: Any, item: Any) -> None:
        """Remember the id of a tool call, as the span of the tool itself has none."""
        call_id, name, arguments = (dig(item, key, str) for key in ("call_id", "name", "arguments"))
        if call_id and name:
            with self._lock:
                self._asked[span.trace_id, name, arguments or ""] = call_id

    def _tell_above(self, span: Any, chat: Chat) -> None:
        """Give the agent and the run above a call their input, from the first call, and output, from the last."""
        said = chat.draft.messages()
        for id in (span.parent_id, span.trace_id):
            above = self._ledger.get(id)
            if (
                above is not None
                and isinstance(record := above.record, Named)
                and isinstance(record, (Agent, Workflow))
            ):
                if record.input is None:
                    record.input = _text(chat.input, "user")
                record.output = _text(said, "assistant") or record.output


def _record(data: Any) -> Record | None:
    """Return the record of an SDK span by the type of its data."""
    kind = data.type
    if kind == "agent":
        return Agent(name=data.name)
    if kind == "function":
        return Tool(name=data.name, type="extension" if get(data, "mcp_data") else "function")
    if kind in {"generation", "response"}:
        model = get(data, "model")
        return Chat(provider="openai", model=model if isinstance(model, str) else None, outer=True)
    if kind in {"transcription", "speech"}:
        model, output_type = dig(data, "model", str), "speech" if kind == "speech" else "text"
        return Chat(operation=sc.GENERATE_CONTENT, provider="openai", model=model, output_type=output_type, outer=True)
    if kind == "handoff":
        return Step(type=kind, name=f"handoff from {data.from_agent}")
    if kind == "guardrail":
        return Step(type=kind, name=data.name)
    if kind == "mcp_tools":
        return Step(type=kind, name=f"list tools of {get(data, 'server')}")
    return Step(type=kind, name=str(get(data, "name") or kind))


def _read_generation(chat: Chat, data: Any, *, capture_content: bool) -> None:
    usage = data.usage if isinstance(data.usage, Mapping) else {}
    count(chat, usage, {"input_tokens": "input_tokens", "output_tokens": "output_tokens"})
    if capture_content:
        chat.input = [_said(message) for message in data.input or ()]
    for index, message in enumerate(data.output or ()):
        if get(message, "object") == "response":
            responses.observe(chat, {"status": "completed", **{k: v for k, v in message.items() if v is not None}})
            continue
        choice = chat.draft.choice(index)
        choice.finish_reason = "tool_calls" if get(message, "tool_calls") else "stop"
        if isinstance(text := get(message, "content"), str):
            choice.say(text)
        for slot, call in enumerate(get(message, "tool_calls") or ()):
            arguments = dig(call, "function.arguments", str)
            choice.call(slot, dig(call, "id", str), dig(call, "function.name", str), arguments)


def _said(message: Any) -> Message:
    """Read a message of a generation; content that is no string becomes text."""
    content = get(message, "content")
    part: Part = {"type": "text", "content": content if isinstance(content, str) else str(content or "")}
    return {"role": dig(message, "role", str) or "user", "parts": [part]}


def _text(messages: list[Message] | None, role: str) -> str | None:
    """Return the text of the last message from *role* that has any."""
    for message in reversed(messages or ()):
        if message.get("role") == role:
            texts = [str(part.get("content", "")) for part in message["parts"] if part["type"] == "text"]
            if texts:
                return "\n".join(texts)
    return None


def install(hook: Hook) -> Undo:
    """Add our tracing processor to the SDK's, and return the function that removes it.

    The SDK has no public way to remove one. If its private list of processors is gone, ours stays and does nothing.
    """
    import agents

    processor: Any = Processor(hook)
    agents.add_trace_processor(processor)

    def undo() -> None:
        processor.on = False
        several = getattr(agents.tracing.get_trace_provider(), "_multi_processor", None)
        if several is not None and hasattr(several, "set_processors"):
            several.set_processors([other for other in several._processors if other is not processor])

    return undo
