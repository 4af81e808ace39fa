"""Readers of LangChain's messages and results, which return records and message parts of the conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ..._shape import get_field, get_fields, get_integer, get_list, get_nested, get_text
from ...hooks.openai_format import FINISH_REASONS, read_openai_tool
from ...hooks.requests import REQUEST_PARAMETERS, read_failed_completion, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import UNTOLD_REASON, OutputDraft
from ...tracing.operations.messages import Message, Part, make_tool_call, make_tool_call_response, parse_json
from ...tracing.operations.plain_values import KeptList
from ...tracing.operations.records import Chat, sees_errors
from .content_blocks import read_content_blocks
from .usage import read_langchain_usage

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


def make_chat_record(metadata: Mapping[str, object], params: Mapping[str, object], *, capture_content: bool) -> Chat:
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
    set_parameters(record, metadata, _METADATA_PARAMETERS)
    set_parameters(record, params, _PARAMETERS)
    if "n" in params and (count := get_integer(params, "n")) != 1:
        record.choice_count = count
    stop = params.get("stop") or params.get("stop_sequences") or metadata.get("ls_stop")
    if isinstance(stop, str):
        stop = [stop]
    if isinstance(stop, list) and stop:
        record.stop_sequences = [one for one in stop if isinstance(one, str)]
    _read_output_format(record, params, capture_content=capture_content)
    offered = params.get("tools")
    if capture_content and isinstance(offered, list) and offered:
        record.tools = [_read_offered_tool(one) for one in offered]
    return record


def _read_output_format(record: Chat, params: Mapping[str, object], *, capture_content: bool) -> None:
    """Read in which form the answer is asked for, and its JSON schema, as the providers' parameters say it."""
    if _FORMAT_KEYS.isdisjoint(params):
        return
    for path, schema in _OUTPUT_FORMATS.items():
        kind = get_nested(params, path, str) or ""
        if "json" not in kind:
            continue
        record.output_type = "json"
        wanted = next((found for one in schema if (found := get_nested(params, one, dict))), None)
        if wanted is not None and capture_content:
            record.output_schema = wanted
        return


# Where a provider's parameters tell the form of the answer -> where they have the schema.
_OUTPUT_FORMATS: Final = {
    "response_format.type": ("response_format.json_schema.schema", "response_format.schema"),
    "text.format.type": ("text.format.schema",),
    "output_config.format.type": ("output_config.format.schema",),
    "output_format.type": ("output_format.schema",),
    "response_mime_type": ("response_json_schema", "response_schema"),
}
_METADATA_PARAMETERS: Final = {"ls_temperature": ("temperature", float), "ls_max_tokens": ("max_tokens", int)}
_FORMAT_KEYS: Final = frozenset(path.partition(".")[0] for path in _OUTPUT_FORMATS)
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


def read_langchain_messages(raws: Any) -> list[Message]:
    """Read LangChain's messages. Most are text alone, which is not looked through again when it is written."""
    messages: list[Message] = KeptList()
    for raw in raws:
        if (text := read_text_message(raw)) is None:
            return [read_langchain_message(one) for one in raws]
        messages.append({"role": text[0], "parts": [{"type": "text", "content": text[1]}]})
    return messages


def read_text_message(raw: object) -> tuple[str, str] | None:
    """Return role and text of one of LangChain's messages; None if it may hold anything else."""
    known = getattr(raw, "__dict__", _NO_FIELDS)
    kind, content = known.get("type"), known.get("content")
    if type(kind) is not str or kind not in _TEXT_ROLES or type(content) is not str or not content:
        return None
    if any(map(known.get, _FURTHER_FIELDS)) or getattr(raw, "__pydantic_extra__", None):
        return None
    return _TEXT_ROLES[kind], content


_NO_FIELDS: Final[Mapping[str, Any]] = {}
_TEXT_ROLES: Final = {"system": "system", "human": "user", "ai": "assistant"}
_FURTHER_FIELDS: Final = ("role", "name", "additional_kwargs", "tool_calls", "invalid_tool_calls")


def read_message_parts(raw: object) -> list[Part]:
    """Read the parts of a message: reasoning, text and media, and tool calls, valid or not."""
    if (text := read_text_message(raw)) is not None:
        return [{"type": "text", "content": text[1]}]
    known = get_fields(raw)
    content = known.get("content")
    found: list[Part] = []
    if isinstance(content, str) and content:
        found.append({"type": "text", "content": content})
    elif isinstance(content, list):
        found += read_content_blocks(raw, content)
    if more := get_fields(known.get("additional_kwargs")):
        if thought := get_text(more, "reasoning_content"):
            found.insert(0, {"type": "reasoning", "content": thought})
        if refusal := get_text(more, "refusal"):
            found.append({"type": "text", "content": refusal})
    for call in get_list(known, "tool_calls"):
        found.append(
            make_tool_call(get_nested(call, "name", str) or "", get_field(call, "args"), get_nested(call, "id", str))
        )
    for call in get_list(known, "invalid_tool_calls"):
        arguments = get_nested(call, "args", str)
        found.append(make_tool_call(get_nested(call, "name", str) or "", arguments, get_nested(call, "id", str)))
    return found


def _flatten_tool_content(content: object) -> object:
    """Return a tool's answer: texts of a list joined, JSON parsed, anything else as it is."""
    if isinstance(content, list):
        texts = [one if isinstance(one, str) else get_nested(one, "text", str) for one in content]
        return "".join(one for one in texts if one is not None) if all(t is not None for t in texts) else content
    return parse_json(content) if isinstance(content, str) and content[:1] in {"{", "["} else content


class FailedResult(NamedTuple):
    """The answer of a call that failed, as far as there was one: an LLMResult of what had arrived, and of the error."""

    result: object


@sees_errors
def observe_llm_result(record: Chat, result: Any) -> None:
    """Read an LLMResult: the answers to its first prompt, and the usage as LangChain has read it from the provider.

    Args:
        record: the record of the call.
        result: the LLMResult, or a FailedResult, whose answers are what had arrived before the error; or the error.
    """
    if isinstance(result, BaseException):
        read_failed_completion(record, result)
        return
    failed = isinstance(result, FailedResult)
    answer = get_fields(result.result if failed else result)
    generations = (get_list(answer, "generations") or [[]])[0]
    if failed:  # for the error itself LangChain makes an answer, which says nothing
        generations = [one for one in generations if get_text(get_fields(one), "text") or _has_parts(one)]
    if generations:  # the whole answer, which takes the place of what its chunks have said
        record.draft = OutputDraft(kept=record.draft.kept)
    for index, generation in enumerate(generations):
        _read_generation(record, index, generation, failed=failed)
    if not (output := answer.get("llm_output")):
        return
    if model := get_nested(output, "model_name", str):
        record.response_model = model
    if record.input_tokens is None and (usage := get_field(output, "token_usage") or get_field(output, "usage")):
        record.input_tokens = find_first(int, usage, names=("prompt_tokens", "input_tokens"))
        record.output_tokens = find_first(int, usage, names=("completion_tokens", "output_tokens"))


def _has_parts(generation: object) -> bool:
    """Return whether a generation has a message that says anything."""
    return bool(read_message_parts(get_field(generation, "message")))


def _read_generation(record: Chat, index: int, generation: object, *, failed: bool) -> None:
    """Read one of the answers to a prompt; of one that has failed, no finish reason can have been told."""
    known = get_fields(generation)
    choice, said = record.draft.get_choice(index), known.get("message")
    message = get_fields(said)
    for piece in read_message_parts(said) if said is not None else _read_generation_text(generation):
        choice.add_part(piece)
    facts, info = message.get("response_metadata"), known.get("generation_info")
    reason = find_first(str, facts, info, names=("finish_reason", "stop_reason", "done_reason", "stopReason"))
    reason = FINISH_REASONS.get(reason or "", reason) or None
    if reason is None and not failed:
        reason = "tool_calls" if record.draft.call_ids else UNTOLD_REASON
    choice.finish_reason = reason
    if (model := find_first(str, facts, info, names=("model_name", "model", "model_id"))) is not None:
        record.response_model = model
    if facts and (id := get_nested(facts, "id", str)):
        record.response_id = id
    if facts and (tier := get_nested(facts, "service_tier", str)):
        record.extra[sc.OPENAI_RESPONSE_SERVICE_TIER] = tier
    if facts and "system_fingerprint" in facts and (fingerprint := get_nested(facts, "system_fingerprint", str)):
        record.extra[sc.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = fingerprint
    if usage := message.get("usage_metadata"):
        read_langchain_usage(record, usage)


def _read_generation_text(generation: object) -> list[Part]:
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
