"""Answers of models as LlamaIndex returns them: whole, or as chunks each of which holds all text so far."""

from __future__ import annotations

from typing import Any, Final

from ..._shape import get_field, get_list, get_nested
from ...hooks.openai_format import FINISH_REASONS
from ...hooks.requests import read_failed_completion, read_provider_usage
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import UNTOLD_REASON, OutputDraft
from ...tracing.operations.messages import Message, make_tool_call
from ...tracing.operations.records import Chat, sees_errors
from .messages import read_block_parts


class AnswerDraft(OutputDraft):
    """Draft of a model's answer that keeps the last chunk, and reads it once, when the span ends."""

    __slots__ = ("_calls", "_deltas", "_failed", "_last", "_reason", "_record", "_told")

    def __init__(self, record: Chat, *, capture_content: bool) -> None:
        super().__init__(kept=capture_content)
        self._record, self._last, self._told = record, None, False
        self._deltas: list[str] = []
        self._calls: dict[
            object, object
        ] = {}  # id -> block of a tool call; the Responses API sends each block only once
        self._reason: str | None = None
        self._failed = False

    def add_answer(self, got: Any) -> None:
        """Take a whole answer, or a chunk of one."""
        self._last = got
        if (delta := get_field(got, "delta")) and isinstance(delta, str):
            self._deltas.append(delta)
        for block in get_list(get_field(got, "message"), "blocks"):
            if get_field(block, "block_type") == "tool_call":
                self._calls[get_field(block, "tool_call_id") or len(self._calls)] = block
        self._reason = _read_finish_reason(get_field(got, "raw")) or self._reason

    def mark_failed(self) -> None:
        """Note that the call has failed: what has arrived is the answer, and gets no finish reason but its own."""
        self._failed = True
        self._write_choice()  # before what the error tells of it

    def build_messages(self) -> list[Message]:
        self._write_choice()
        return super().build_messages()

    def list_finish_reasons(self) -> list[str] | None:
        self._write_choice()
        return super().list_finish_reasons()

    def _write_choice(self) -> None:
        """Write the answer into the draft's only choice, the first time that this is called."""
        if self._told or self._last is None:
            return
        self._told = True
        choice, said = self.get_choice(), get_field(self._last, "message")
        found = read_block_parts(said) if said is not None else []
        calls = [one for one in found if one["type"] == "tool_call"]
        called = {one.get("id") for one in calls}
        for id, block in self._calls.items():
            if id not in called and get_nested(block, "tool_call_id", str) not in called:
                arguments, name = get_field(block, "tool_kwargs"), get_nested(block, "tool_name", str)
                calls.append(make_tool_call(name or "", arguments, get_nested(block, "tool_call_id", str)))
        for one in found:
            if one["type"] not in {"text", "tool_call"}:
                choice.add_part(one)
        texts = [one["content"] for one in found if one["type"] == "text"] if said is not None else []
        whole = "\n".join(texts) if said is not None else get_nested(self._last, "text", str) or ""
        pieces = "".join(self._deltas)
        if answer := max(whole, pieces, key=len):  # the last chunk holds the whole text, or only its own piece
            choice.add_text(answer)
        for one in calls:
            choice.add_part(one)
        over = self._failed or self._record.stream_end is not None
        choice.finish_reason = self._reason or (None if over else "tool_calls" if calls else UNTOLD_REASON)


@sees_errors
def observe_llm_answer(record: Chat, got: object) -> None:
    """Read a ChatResponse, a CompletionResponse, or a chunk of one; note that a call has failed."""
    draft = record.draft
    if isinstance(got, BaseException):
        if isinstance(draft, AnswerDraft):
            draft.mark_failed()
        read_failed_completion(record, got)
        return
    if isinstance(draft, AnswerDraft):
        draft.add_answer(got)
    raw = get_field(got, "raw")
    if raw is not None:
        answer = get_field(raw, "response") or raw  # the Responses API's last event holds the response
        record.response_id = get_nested(answer, "id", str) or get_nested(raw, "message.id", str) or record.response_id
        named = (
            get_nested(answer, "model", str)
            or get_nested(answer, "model_version", str)
            or get_nested(raw, "message.model", str)
        )
        record.response_model = named or record.response_model
        if tier := get_nested(answer, "service_tier", str):
            record.extra[sc.OPENAI_RESPONSE_SERVICE_TIER] = tier
        for path in _USAGE_PATHS:
            if (usage := _follow_path(raw, path)) is not None:
                read_provider_usage(record, usage)
    if (
        usage := get_nested(got, "message.additional_kwargs.usage", dict)
    ) is not None:  # Anthropic's package puts it there
        read_provider_usage(record, usage)
    if record.input_tokens is None and (more := get_field(got, "additional_kwargs")):
        read_provider_usage(record, more)


_USAGE_PATHS: Final = (("usage",), ("response", "usage"), ("message", "usage"), ("usage_metadata",), ("meta", "tokens"))


def _follow_path(raw: object, path: tuple[str, ...]) -> object:
    """Return the value at *path* in a provider's answer; None if there is none."""
    for name in path:
        raw = get_field(raw, name)
    return raw


def _read_finish_reason(raw: object) -> str | None:
    """Return the finish reason of a provider's answer, in OpenAI's terms where there is one."""
    if raw is None:
        return None
    choices = get_list(raw, "choices")
    found = get_nested(choices[0], "finish_reason", str) if choices else None
    for path in _FINISH_REASON_PATHS:
        found = found or get_nested(raw, path, str)
    return FINISH_REASONS.get(found or "", found)


_FINISH_REASON_PATHS: Final = ("stop_reason", "delta.stop_reason", "stopReason", "done_reason", "finish_reason")
