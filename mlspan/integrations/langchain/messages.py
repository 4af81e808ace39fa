"""Readers of LangChain's messages and results, which return records and message parts of the conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..._shape import get_field, get_fields, get_integer, get_list, get_nested, get_text
from ...hooks.openai_format import FINISH_REASONS, read_openai_part, read_openai_tool
from ...hooks.requests import REQUEST_PARAMETERS, UsageTable, read_usage, set_parameters
from ...tracing.operations.messages import (
    Message,
    OutputDraft,
    Part,
    make_tool_call,
    make_tool_call_response,
    parse_json,
)
from ...tracing.operations.records import Chat

PROVIDER_NAMES: Final = {  # LangChain's name -> value of gen_ai.provider.name
    "azure": "azure.ai.openai",
    "amazon_bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    "moonshot": "moonshot_ai",
}
ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "function": "tool"}


def read_provider(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Return the conventions' name of the provider, else LangChain's own, else ``unknown``."""
    name = metadata.get("ls_provider") or params.get("_type") or "unknown"
    return PROVIDER_NAMES.get(name, str(name))


def make_chat_record(metadata: Mapping[str, object], params: Mapping[str, Any], *, capture_content: bool) -> Chat:
    """Return the record of a call to a model, as it is known at its start.

    Args:
        metadata: the run's metadata, with LangChain's ``ls_`` entries.
        params: the parameters of the request, as the integration package names them.
        capture_content: whether content is recorded.
    """
    model = metadata.get("ls_model_name") or params.get("model") or params.get("model_name")
    record = Chat(
        provider=read_provider(metadata, params),
        model=model if isinstance(model, str) else None,
        draft=OutputDraft(kept=capture_content),
        stream=True if params.get("stream") is True else None,
        outer=True,
    )
    set_parameters(record, params, _PARAMETERS)
    if "n" in params and (count := get_integer(params, "n")) != 1:
        record.choice_count = count
    stop = params.get("stop")
    if isinstance(stop, list) and stop:
        record.stop_sequences = [one for one in stop if isinstance(one, str)]
    offered = params.get("tools")
    if capture_content and isinstance(offered, list) and offered:
        record.tools = [_read_offered_tool(one) for one in offered]
    return record


_PARAMETERS: Final = {name: to for name, to in REQUEST_PARAMETERS.items() if name != "reasoning_effort"}


def _read_offered_tool(raw: object) -> Any:
    """Read the definition of a tool in OpenAI's format or Anthropic's."""
    if isinstance(raw, Mapping) and "input_schema" in raw:  # Anthropic's
        return read_openai_tool(
            {"name": raw.get("name"), "description": raw.get("description"), "parameters": raw["input_schema"]}
        )
    return read_openai_tool(raw)


def read_langchain_message(raw: object) -> Message:
    """Read one of LangChain's messages, or a dict or a text in place of one."""
    if isinstance(raw, str):
        return {"role": "user", "parts": [{"type": "text", "content": raw}]}
    known = get_fields(raw)
    kind = get_text(known, "type") or get_text(known, "role") or "user"
    if kind == "tool":
        return {
            "role": "tool",
            "parts": [
                make_tool_call_response(_flatten_tool_content(known.get("content")), get_text(known, "tool_call_id"))
            ],
        }
    said: Message = {"role": get_text(known, "role") or ROLES.get(kind, kind), "parts": read_message_parts(raw)}
    if name := get_text(known, "name"):
        said["name"] = name
    return said


def read_langchain_messages(raw: Any) -> list[Message]:
    """Read LangChain's messages."""
    return [read_langchain_message(one) for one in raw]


def read_message_parts(raw: object) -> list[Part]:
    """Read the parts of a message: reasoning, text and media, and tool calls, valid or not."""
    known = get_fields(raw)
    content = known.get("content")
    found: list[Part] = []
    if isinstance(content, str) and content:
        found.append({"type": "text", "content": content})
    elif isinstance(content, list):
        found += [_read_content_block(block) for block in content if _is_message_block(block)]
    if (more := known.get("additional_kwargs")) and (thought := get_text(get_fields(more), "reasoning_content")):
        found.insert(0, {"type": "reasoning", "content": thought})
    for call in get_list(known, "tool_calls"):
        found.append(
            make_tool_call(get_nested(call, "name", str) or "", get_field(call, "args"), get_nested(call, "id", str))
        )
    for call in get_list(known, "invalid_tool_calls"):
        arguments = get_nested(call, "args", str)
        found.append(make_tool_call(get_nested(call, "name", str) or "", arguments, get_nested(call, "id", str)))
    return found


def _is_message_block(block: object) -> bool:
    """Return whether a content block is read; tool calls are not, as the message lists them besides."""
    return not isinstance(block, dict) or block.get("type") not in {
        "tool_use",
        "function_call",
        "tool_call",
        "input_json_delta",
    }


def _read_content_block(block: object) -> Part:
    """Read a content block of LangChain, Anthropic or OpenAI."""
    kind = get_field(block, "type")
    if kind in {"thinking", "reasoning"}:
        thought = get_nested(block, "thinking", str) or get_nested(block, "reasoning", str) or _join_summary(block)
        return {"type": "reasoning", "content": thought}
    if kind in {"image", "audio", "file"}:
        modality = "document" if kind == "file" else kind
        source = get_field(block, "source") or block
        if url := get_nested(source, "url", str):
            return {"type": "uri", "modality": modality, "uri": url}
        if data := get_nested(source, "data", str) or get_nested(source, "base64", str):
            mime_type = get_nested(source, "media_type", str) or get_nested(source, "mime_type", str) or ""
            return {"type": "blob", "modality": modality, "content": data, "mime_type": mime_type}
    return read_openai_part(block)


def _join_summary(block: object) -> str:
    """Return the summary of a block of reasoning, one paragraph a line."""
    return "\n".join(get_nested(one, "text", str) or "" for one in get_list(block, "summary"))


def _flatten_tool_content(content: object) -> object:
    """Return a tool's answer: texts of a list joined, JSON parsed, anything else as it is."""
    if isinstance(content, list):
        texts = [one if isinstance(one, str) else get_nested(one, "text", str) for one in content]
        return "".join(one for one in texts if one is not None) if all(t is not None for t in texts) else content
    return parse_json(content) if isinstance(content, str) and content[:1] in {"{", "["} else content


def observe_llm_result(record: Chat, result: Any) -> None:
    """Read an LLMResult: the answers to its first prompt, and the usage as LangChain has read it from the provider."""
    answer = get_fields(result)
    generations = (get_list(answer, "generations") or [[]])[0]
    if generations:  # the whole answer, which takes the place of what its chunks have said
        record.draft = OutputDraft(kept=record.draft.kept)
    for index, generation in enumerate(generations):
        known = get_fields(generation)
        choice, said = record.draft.get_choice(index), known.get("message")
        message = get_fields(said)
        for piece in read_message_parts(said) if said is not None else _read_generation_text(generation):
            choice.add_part(piece)
        facts, info = message.get("response_metadata"), known.get("generation_info")
        reason = find_first(str, facts, info, names=("finish_reason", "stop_reason", "done_reason"))
        choice.finish_reason = FINISH_REASONS.get(reason or "", reason) or (
            "tool_calls" if record.draft.call_ids else "stop"
        )
        if (model := find_first(str, facts, info, names=("model_name", "model"))) is not None:
            record.response_model = model
        if facts and (id := get_nested(facts, "id", str)):
            record.response_id = id
        if usage := message.get("usage_metadata"):
            read_usage(record, usage, *_USAGE_METADATA)
    if not (output := answer.get("llm_output")):
        return
    if model := get_nested(output, "model_name", str):
        record.response_model = model
    if record.input_tokens is None and (usage := get_field(output, "token_usage") or get_field(output, "usage")):
        record.input_tokens = find_first(int, usage, names=("prompt_tokens", "input_tokens"))
        record.output_tokens = find_first(int, usage, names=("completion_tokens", "output_tokens"))


def _read_generation_text(generation: Any) -> list[Part]:
    """Read the text of a generation that has no message."""
    said = get_text(get_fields(generation), "text")
    return [{"type": "text", "content": said}] if said else []


def find_first(want: type, *holders: object, names: tuple[str, ...]) -> Any:
    """Return the first value of type *want* under any of *names* in any of *holders*; None if there is none."""
    for holder in holders:
        for name in names if holder else ():
            if (found := get_nested(holder, name, want)) is not None:
                return found
    return None


_USAGE_METADATA: Final[tuple[UsageTable, ...]] = (  # counts of LangChain's UsageMetadata
    {"input_tokens": "input_tokens", "output_tokens": "output_tokens"},
    {
        "in": "input_token_details",
        "cache_read": "cache_read_tokens",
        "cache_creation": "cache_write_tokens",
        "audio": "audio_input_tokens",
    },
    {"in": "output_token_details", "reasoning": "reasoning_tokens", "audio": "audio_output_tokens"},
)
