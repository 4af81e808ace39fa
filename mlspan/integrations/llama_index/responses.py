"""Answers of models as LlamaIndex returns them: whole, or as chunks each of which holds all text so far."""

from __future__ import annotations

from typing import Any, Final

from ..._shape import dig, get, items
from ...hooks.openai_format import REASONS
from ...tracing.operations.messages import Draft, Message, tool_call
from ...tracing.operations.records import Chat, sees_errors
from .messages import parts


class Heard(Draft):
    """Draft of a model's answer that keeps the last chunk, and reads it once, when the span ends."""

    __slots__ = ("_calls", "_deltas", "_failed", "_last", "_reason", "_record", "_told")

    def __init__(self, record: Chat, *, capture_content: bool) -> None:
        super().__init__(kept=capture_content)
        self._record, self._last, self._told = record, None, False
        self._deltas: list[str] = []
        self._calls: dict[Any, Any] = {}  # id -> block of a tool call; the Responses API sends each block only once
        self._reason: str | None = None
        self._failed = False

    def hear(self, got: Any) -> None:
        """Take a whole answer, or a chunk of one."""
        self._last = got
        if (delta := get(got, "delta")) and isinstance(delta, str):
            self._deltas.append(delta)
        for block in items(get(got, "message"), "blocks"):
            if get(block, "block_type") == "tool_call":
                self._calls[get(block, "tool_call_id") or len(self._calls)] = block
        self._reason = _read_finish_reason(get(got, "raw")) or self._reason

    def fail(self) -> None:
        """Note that the call has failed, so that an answer cut short gets no finish reason."""
        self._failed = True

    def messages(self) -> list[Message]:
        self._tell()
        return super().messages()

    def finish_reasons(self) -> list[str] | None:
        self._tell()
        return super().finish_reasons()

    def _tell(self) -> None:
        """Write the answer into the draft's only choice, the first time that this is called."""
        if self._told or self._last is None:
            return
        self._told = True
        choice, said = self.choice(), get(self._last, "message")
        found = parts(said) if said is not None else []
        calls = [one for one in found if one["type"] == "tool_call"]
        called = {one.get("id") for one in calls}
        for id, block in self._calls.items():
            if id not in called and dig(block, "tool_call_id", str) not in called:
                arguments, name = get(block, "tool_kwargs"), dig(block, "tool_name", str)
                calls.append(tool_call(name or "", arguments, dig(block, "tool_call_id", str)))
        for one in found:
            if one["type"] not in {"text", "tool_call"}:
                choice.add(one)
        texts = [one["content"] for one in found if one["type"] == "text"] if said is not None else []
        whole = "\n".join(texts) if said is not None else dig(self._last, "text", str) or ""
        pieces = "".join(self._deltas)
        if answer := max(whole, pieces, key=len):  # the last chunk holds the whole text, or only its own piece
            choice.say(answer)
        for one in calls:
            choice.add(one)
        over = self._failed or self._record.stream_end is not None
        choice.finish_reason = self._reason or (None if over else "tool_calls" if calls else "stop")


@sees_errors
def observe(record: Chat, got: Any) -> None:
    """Read a ChatResponse, a CompletionResponse, or a chunk of one; note that a call has failed."""
    heard = record.draft
    if isinstance(got, BaseException):
        if isinstance(heard, Heard):
            heard.fail()
        return
    if isinstance(heard, Heard):
        heard.hear(got)
    raw = get(got, "raw")
    if raw is not None:
        answer = get(raw, "response") or raw  # the Responses API's last event holds the response
        record.response_id = dig(answer, "id", str) or dig(raw, "message.id", str) or record.response_id
        named = dig(answer, "model", str) or dig(answer, "model_version", str) or dig(raw, "message.model", str)
        record.response_model = named or record.response_model
        for path in _USAGES:
            if (usage := _at(raw, path)) is not None:
                count(record, usage)
    if (usage := dig(got, "message.additional_kwargs.usage", dict)) is not None:  # Anthropic's package puts it there
        count(record, usage)
    if record.input_tokens is None and (more := get(got, "additional_kwargs")):
        count(record, more)


_USAGES: Final = (("usage",), ("response", "usage"), ("message", "usage"), ("usage_metadata",), ("meta", "tokens"))


def _at(raw: Any, path: tuple[str, ...]) -> Any:
    """Return the value at *path* in a provider's answer; None if there is none."""
    for name in path:
        raw = get(raw, name)
    return raw


def count(record: Chat, usage: Any) -> None:
    """Read token counts under the names of any provider: OpenAI, Anthropic, Bedrock or Gemini.

    The record's input tokens include cached ones, which Anthropic and Bedrock count separately. Its output tokens
    include thoughts, which Gemini counts separately.
    """
    for path, field in _COUNTS.items():
        _take(record, field, dig(usage, path, int))
    for given, *cached in _APART:
        if (tokens := dig(usage, given, int)) is not None:
            apart = sum(dig(usage, name, int) or 0 for name in cached)
            _take(record, "output_tokens" if given.startswith("candidates") else "input_tokens", tokens + apart)


def _take(record: Chat, field: str, tokens: int | None) -> None:
    """Set a token count, unless it is missing, or zero while the record has one.

    Each event of a stream holds some of the counts, and leaves the others out or at zero.
    """
    if tokens is not None and (tokens or getattr(record, field) is None):
        setattr(record, field, tokens)


_COUNTS: Final = {  # path in a usage -> field of the record
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "prompt_tokens_details.cached_tokens": "cache_read_tokens",
    "prompt_tokens_details.audio_tokens": "audio_input_tokens",
    "completion_tokens_details.reasoning_tokens": "reasoning_tokens",
    "completion_tokens_details.audio_tokens": "audio_output_tokens",
    "output_tokens": "output_tokens",
    "input_tokens_details.cached_tokens": "cache_read_tokens",
    "output_tokens_details.reasoning_tokens": "reasoning_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "outputTokens": "output_tokens",
    "cacheReadInputTokens": "cache_read_tokens",
    "cacheWriteInputTokens": "cache_write_tokens",
    "prompt_token_count": "input_tokens",
    "cached_content_token_count": "cache_read_tokens",
    "thoughts_token_count": "reasoning_tokens",
}
_APART: Final = (
    ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
    ("candidates_token_count", "thoughts_token_count"),
)


def _read_finish_reason(raw: Any) -> str | None:
    """Return the finish reason of a provider's answer, in OpenAI's terms where there is one."""
    if raw is None:
        return None
    choices = items(raw, "choices")
    found = dig(choices[0], "finish_reason", str) if choices else None
    for path in _REASONS_AT:
        found = found or dig(raw, path, str)
    return REASONS.get(found or "", found)


_REASONS_AT: Final = ("stop_reason", "delta.stop_reason", "stopReason", "done_reason", "finish_reason")
