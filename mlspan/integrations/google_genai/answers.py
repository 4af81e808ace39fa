"""Answers of Gemini's API, whole or one chunk of a stream: candidates, reasons to stop, token counts."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final

from ..._shape import (
    MOST_COUNTED,
    get_count,
    get_field,
    get_fields,
    get_integer,
    get_text,
    list_items,
    read_count,
)
from ...hooks.openai_format import FINISH_REASONS
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


def observe_chunk(chat: Chat, got: Any) -> None:
    """Read a chunk of an answer. One that holds text, counts and nothing else, as nearly all do, is read here.

    Each model is asked once for all that it has, as the ``__getattr__`` of pydantic makes every attribute slow to read.
    The id of the answer and its model are read of the first chunk, which opens the text, and of the last one; of those
    between only until both are known, as a reader may leave before the last one.
    """
    try:
        answer = got.__dict__
        (raw_candidate,) = answer["candidates"]
        candidate = raw_candidate.__dict__
        (part,) = candidate["content"].__dict__["parts"]
        is_text_alone = (
            candidate["finish_reason"] is None
            and not candidate["index"]
            and len(part.__pydantic_fields_set__) == 1
            and type(text := part.__dict__["text"]) is str
            and chat.draft.continue_text(text)
        )
        usage = answer["usage_metadata"] if is_text_alone else None
    except (AttributeError, KeyError, TypeError, ValueError):  # of another shape
        is_text_alone, usage = False, None
    if not is_text_alone:
        observe_answer(chat, got)
        return
    if chat.response_id is None or chat.response_model is None:
        _read_names(chat, answer)
    if usage is not None:
        _keep_usage(chat, usage)


def observe_answer(chat: Chat, got: object) -> None:
    """Read a ``GenerateContentResponse``: a whole answer, or a chunk of one, whose token counts are those so far."""
    answer = get_fields(got)
    _read_names(chat, answer)
    candidates = list_items(answer.get("candidates"))
    for position, raw_candidate in enumerate(candidates):
        candidate = get_fields(raw_candidate)
        index = get_integer(candidate, "index")
        choice = chat.draft.get_choice(position if index is None else index)
        for raw in list_items(get_fields(candidate.get("content")).get("parts")):
            part: Any = read_part(raw)
            if part["type"] in {"text", "reasoning"}:
                choice.add_text(part["content"], part["type"])
            else:
                choice.add_part(part)
        if (told := candidate.get("finish_reason")) is not None and (reason := _read_reason(told)):
            choice.finish_reason = reason
    if not candidates and get_field(answer.get("prompt_feedback"), "block_reason") is not None:
        chat.draft.get_choice().finish_reason = "content_filter"  # the prompt was refused
    if (usage := answer.get("usage_metadata")) is None:
        return
    if chat.unread is None:
        _read_usage(chat, usage)
    else:  # behind chunks whose counts are yet to be read
        _keep_usage(chat, usage)


def _read_names(chat: Chat, answer: Mapping[str, Any]) -> None:
    """Read the id of an answer, and the model that gives it; what a chunk does not tell stays."""
    chat.response_id = get_text(answer, "response_id") or chat.response_id
    chat.response_model = get_text(answer, "model_version") or chat.response_model


def _keep_usage(chat: Chat, usage: Any) -> None:
    """Keep the token counts of a chunk until the end: each chunk tells those so far, so the last ones count.

    One that tells all that those before it have told takes their place; zeros tell nothing.
    """
    before = chat.unread  # with the names of what it tells, and what reads those, as asking a model anew takes longer
    try:
        told = usage.__pydantic_fields_set__
        read_told: Any = None
        if before is not None and told == before[1]:  # as in nearly all chunks of a stream
            read_told = before[2]
        elif before is None or told >= before[1]:
            read_told = itemgetter(*told)
        if read_told is not None and all(read_told(usage.__dict__)):
            chat.unread, chat.read_rest = (usage, told, read_told), _read_kept_usage
            return
    except (AttributeError, KeyError, TypeError):  # of another shape, or one that tells a single count
        pass
    kept = {} if before is None else _list_told(before[0])
    chat.unread, chat.read_rest = ({**kept, **_list_told(usage)}, None, None), _read_kept_usage


def _read_kept_usage(chat: Chat, kept: tuple[object, object]) -> None:
    _read_usage(chat, kept[0])


def _list_told(usage: object) -> dict[str, Any]:
    """Return the fields of *usage* without None, and without zeros, which replace no count."""
    return {name: value for name, value in get_fields(usage).items() if value}


def _read_reason(told: object) -> str | None:
    text = getattr(told, "value", told)
    return _FINISH_REASONS.get(text, text.lower()) if isinstance(text, str) else None


def _read_usage(chat: Chat, usage: object) -> None:
    """Read token counts. A zero does not replace what the record has. Thoughts are billed as output, too."""
    counts = get_fields(usage)
    for name, field in _COUNTS.items():
        if (tokens := get_count(counts, name)) or (tokens == 0 and getattr(chat, field) is None):
            setattr(chat, field, tokens)
    said, thought = get_count(counts, "candidates_token_count"), get_count(counts, "thoughts_token_count")
    output = None if said is None and thought is None else (said or 0) + (thought or 0)
    if output is not None and output <= MOST_COUNTED and (output or chat.output_tokens is None):
        chat.output_tokens = output
    if any(map(counts.get, _RARE_COUNTS)) or _TOOL_TOKENS in vars(chat).get("extra", ()):  # chat.extra would make one
        _read_rare_counts(chat, counts)


_COUNTS: Final = {  # count of Gemini's -> field of the record
    "prompt_token_count": "input_tokens",
    "cached_content_token_count": "cache_read_tokens",
    "thoughts_token_count": "reasoning_tokens",
}
_RARE_COUNTS: Final = (*_MODALITY_COUNTS, "tool_use_prompt_token_count")


def _read_rare_counts(chat: Chat, counts: Mapping[str, Any]) -> None:
    """Read counts by modality. What the tools that Google runs have added to the prompt is billed as input, too."""
    for name, ending in _MODALITY_COUNTS.items():
        for one in list_items(counts.get(name)):
            modality = get_field(one, "modality")
            word = str(getattr(modality, "value", modality)).lower()
            if word in _MODALITIES and (tokens := read_count(get_field(one, "token_count"))) is not None:
                setattr(chat, f"{word}_{ending}", tokens)
    if tools := get_count(counts, "tool_use_prompt_token_count"):
        chat.extra[_TOOL_TOKENS] = tools
    elif _TOOL_TOKENS not in vars(chat).get("extra", ()):
        return
    if (prompt := get_count(counts, "prompt_token_count")) is not None:
        chat.input_tokens = prompt + chat.extra[_TOOL_TOKENS]
