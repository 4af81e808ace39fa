"""Answers of Gemini's API, whole or one chunk of a stream: candidates, reasons to stop, token counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..._shape import (
    get_count,
    get_field,
    get_fields,
    get_integer,
    get_text,
    get_told_fields,
    list_items,
    read_count,
)
from ...hooks.openai_format import FINISH_REASONS
from ...hooks.requests import read_provider_usage
from ...tracing.operations.records import Chat
from .contents import read_part

_FINISH_REASONS: Final = {  # finish reason of Gemini -> finish reason of the conventions; others in small letters
    **FINISH_REASONS,
    **dict.fromkeys(("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"), "content_filter"),
    **dict.fromkeys(("MODEL_ARMOR", "LANGUAGE"), "content_filter"),
    **dict.fromkeys(("MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"), "error"),
}


_MODALITIES: Final = {"text", "image", "audio"}  # the conventions count no others
_MODALITY_COUNTS: Final = {  # list of counts by modality -> end of the name of the record's fields
    "prompt_tokens_details": "input_tokens",
    "candidates_tokens_details": "output_tokens",
    "cache_tokens_details": "cache_read_tokens",
}
_TOOL_TOKENS: Final = "mlspan.usage.tool_use_prompt_tokens"  # only some of a stream's chunks tell them


def observe_answer(chat: Chat, got: object) -> None:
    """Read a ``GenerateContentResponse``: a whole answer, or a chunk of one, whose token counts are those so far."""
    if _append_text(chat, got):
        return
    answer = get_told_fields(got)
    chat.response_id = get_text(answer, "response_id") or chat.response_id
    chat.response_model = get_text(answer, "model_version") or chat.response_model
    candidates = list_items(answer.get("candidates"))
    for position, raw_candidate in enumerate(candidates):
        candidate = get_told_fields(raw_candidate)
        index = get_integer(candidate, "index")
        choice = chat.draft.get_choice(position if index is None else index)
        for raw in list_items(get_fields(candidate.get("content")).get("parts")):
            part: Any = read_part(raw)
            if part["type"] in {"text", "reasoning"}:
                choice.add_text(part["content"], part["type"])
            else:
                choice.add_part(part)
        if reason := _read_reason(candidate):
            choice.finish_reason = reason
    if not candidates and get_field(answer.get("prompt_feedback"), "block_reason") is not None:
        chat.draft.get_choice().finish_reason = "content_filter"  # the prompt was refused
    _read_usage(chat, answer.get("usage_metadata"))


def _append_text(chat: Chat, got: Any) -> bool:
    """Append a chunk that holds text, counts and nothing else, as nearly all do; return False for any other."""
    try:
        if got.response_id != chat.response_id or got.model_version != chat.response_model:
            return False  # the first one, or of a server that tells neither
        (candidate,) = got.candidates
        (part,) = candidate.content.parts
        if part.__pydantic_fields_set__ != _TEXT_ALONE or candidate.finish_reason is not None or candidate.index:
            return False
        text = part.text
    except (AttributeError, TypeError, ValueError):  # of another shape
        return False
    if type(text) is not str:
        return False
    chat.draft.get_choice().add_text(text)
    _read_usage(chat, got.usage_metadata)
    return True


_TEXT_ALONE: Final = {"text"}


def _read_reason(candidate: Mapping[str, Any]) -> str | None:
    if (reason := candidate.get("finish_reason")) is None:
        return None
    text = getattr(reason, "value", reason)
    return _FINISH_REASONS.get(text, text.lower()) if isinstance(text, str) else None


def _read_usage(chat: Chat, usage: object) -> None:
    """Read token counts. What the tools that Google runs have added to the prompt is billed as input, too."""
    if usage is None:
        return
    counts = get_told_fields(usage)
    read_provider_usage(chat, counts)
    for name in filter(_MODALITY_COUNTS.__contains__, counts):
        ending = _MODALITY_COUNTS[name]
        for one in list_items(counts[name]):
            modality = get_field(one, "modality")
            word = str(getattr(modality, "value", modality)).lower()
            if word in _MODALITIES and (tokens := read_count(get_field(one, "token_count"))) is not None:
                setattr(chat, f"{word}_{ending}", tokens)
    if tools := get_count(counts, "tool_use_prompt_token_count"):
        chat.extra[_TOOL_TOKENS] = tools
    elif _TOOL_TOKENS not in vars(chat).get("extra", ()):  # chat.extra would make one
        return
    if (prompt := get_count(counts, "prompt_token_count")) is not None:
        chat.input_tokens = prompt + chat.extra[_TOOL_TOKENS]
