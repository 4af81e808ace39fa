"""Answers in the formats of the models' makers, whole or one event of a stream; Claude's are Anthropic's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..._shape import get_count, get_field, get_list, get_nested, list_items, read_count
from ...hooks.openai_format import FINISH_REASONS
from ...hooks.requests import read_chat_usage
from ...tracing.operations.content import to_json
from ...tracing.operations.message_drafts import ChoiceDraft
from ...tracing.operations.records import Chat
from .contents import make_plain
from .converse import observe_converse

Read = Callable[[Chat, dict[str, Any]], object]
_REASONS: Final = {**FINISH_REASONS, "FINISH": "stop", "TOOL_CALL": "tool_calls", "CONTENT_FILTERED": "content_filter"}


def find_answer_reader(body: dict[str, object]) -> Read | None:
    """Return the reader of an answer, by a field that only its format has; None if it is Claude's, or nobody's."""
    return next((read for name, read in _FORMATS.items() if name in body), None)


def _set_finish_reason(choice: ChoiceDraft, reason: object) -> None:
    if isinstance(reason, str):
        choice.finish_reason = _REASONS.get(reason, reason.lower())


def _add_answer_text(choice: ChoiceDraft, text: object) -> None:
    if isinstance(text, str) and text:
        choice.add_text(text)


def _set_tokens(chat: Chat, given: int | None, output: int | None) -> None:
    chat.input_tokens = chat.input_tokens if given is None else given
    chat.output_tokens = chat.output_tokens if output is None else output


def _read_llama(chat: Chat, body: dict[str, object]) -> None:
    choice = chat.draft.get_choice()
    _add_answer_text(choice, body.get("generation"))
    _set_finish_reason(choice, body.get("stop_reason"))
    _set_tokens(chat, get_count(body, "prompt_token_count"), get_count(body, "generation_token_count"))


def _read_mistral(chat: Chat, body: dict[str, object]) -> None:
    for index, output in enumerate(list_items(body.get("outputs"))):
        choice = chat.draft.get_choice(index)
        _add_answer_text(choice, get_field(output, "text"))
        _set_finish_reason(choice, get_field(output, "stop_reason"))


def _read_choices(chat: Chat, body: dict[str, object]) -> None:
    """Read choices in OpenAI's format: Mistral's chats, DeepSeek, Qwen, AI21, and OpenAI's open models."""
    chat.response_id = get_nested(body, "id", str) or chat.response_id
    for position, one in enumerate(list_items(body.get("choices"))):
        index = get_nested(one, "index", int)
        choice = chat.draft.get_choice(position if index is None else index)
        message = get_field(one, "message") or get_field(one, "delta")
        for name in ("reasoning", "reasoning_content"):
            if thought := get_nested(message, name, str):
                choice.add_text(thought, "reasoning")
        _add_answer_text(choice, get_field(message, "content") or get_field(one, "text"))
        for slot, call in enumerate(list_items(get_field(message, "tool_calls"))):
            _add_tool_call(choice, get_nested(call, "index", int) or slot, call)
        _set_finish_reason(choice, get_nested(one, "finish_reason", str) or get_nested(one, "stop_reason", str))
    read_chat_usage(chat, body.get("usage"))


def _add_tool_call(choice: ChoiceDraft, slot: int, call: object) -> None:
    function = get_field(call, "function")
    given = get_field(function, "arguments")
    arguments = given if isinstance(given, str) or given is None else to_json(make_plain(given))
    choice.add_tool_call(slot, get_nested(call, "id", str), get_nested(function, "name", str), arguments)


def _read_cohere(chat: Chat, body: dict[str, object]) -> None:
    """Read an answer of Command, of any version, or an event of its stream; the last event repeats the text."""
    chat.response_id = get_nested(body, "generation_id", str) or get_nested(body, "id", str) or chat.response_id
    for index, one in enumerate(list_items(body.get("generations"))):
        _add_answer_text(chat.draft.get_choice(index), get_field(one, "text"))
        _set_finish_reason(chat.draft.get_choice(index), get_field(one, "finish_reason"))
    if "generations" in body:
        return
    choice = chat.draft.get_choice()
    _add_answer_text(choice, body.get("text"))
    calls = list_items(body.get("tool_calls"))
    for slot, call in enumerate(calls):
        name, given = get_nested(call, "name", str), get_field(call, "parameters")
        choice.add_tool_call(slot, None, name, to_json(make_plain(given)) if given else None)
    _set_finish_reason(choice, body.get("finish_reason"))
    if calls and choice.finish_reason == "stop":
        choice.finish_reason = "tool_calls"


def _read_titan(chat: Chat, body: dict[str, object]) -> None:
    results = list_items(body.get("results"))
    for index, one in enumerate(results or [body]):
        choice = chat.draft.get_choice(index)
        _add_answer_text(choice, get_field(one, "outputText"))
        _set_finish_reason(choice, get_field(one, "completionReason"))
    counts = [count for one in results if (count := read_count(get_field(one, "tokenCount"))) is not None]
    output = sum(counts) if counts else get_count(body, "totalOutputTextTokenCount")
    _set_tokens(chat, get_count(body, "inputTextTokenCount"), output)


def _read_old_claude(chat: Chat, body: dict[str, object]) -> None:
    choice = chat.draft.get_choice()
    _add_answer_text(choice, body.get("completion"))
    _set_finish_reason(choice, body.get("stop_reason"))


def _read_images(chat: Chat, body: dict[str, Any]) -> None:
    """Read pictures, each of which is a part; a server that makes none says why."""
    choice = chat.draft.get_choice()
    for data in get_list(body, "images"):
        if isinstance(data, str):
            content = make_plain(data.encode()) if len(data) > _MOST_TEXT else data
            choice.add_part({"type": "blob", "modality": "image", "content": content, "mime_type": "image/png"})
    choice.finish_reason = "error" if body.get("error") else "stop"


_MOST_TEXT: Final = 1024 * 1024
_FORMATS: Final[Mapping[str, Read]] = {  # field that only this format has -> its reader; the first that fits counts
    **dict.fromkeys(("contentBlockDelta", "contentBlockStart", "messageStart", "messageStop"), observe_converse),
    **dict.fromkeys(("output", "metadata", "contentBlockStop"), observe_converse),  # Amazon's own models
    "choices": _read_choices,
    "generation": _read_llama,
    "outputs": _read_mistral,
    "results": _read_titan,
    "outputText": _read_titan,
    "completion": _read_old_claude,
    "images": _read_images,
    **dict.fromkeys(("generations", "event_type", "is_finished", "chat_history", "text"), _read_cohere),
}
