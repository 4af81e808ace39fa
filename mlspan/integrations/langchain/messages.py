"""Readers of LangChain's messages, results and documents, which return records and message parts of the conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from ..._shape import dig, fields, get, is_a, items, text, whole
from ...hooks.openai_format import REASONS, part, tool
from ...tracing.operations.content import to_json
from ...tracing.operations.messages import Draft, Message, Part, loads, tool_call, tool_call_response
from ...tracing.operations.records import Chat

PROVIDERS: Final = {  # LangChain's name -> value of gen_ai.provider.name
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
_ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "function": "tool"}


def provider(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Return the conventions' name of the provider, else LangChain's own, else ``unknown``."""
    name = metadata.get("ls_provider") or params.get("_type") or "unknown"
    return PROVIDERS.get(name, str(name))


def chat(metadata: Mapping[str, Any], params: Mapping[str, Any], *, capture_content: bool) -> Chat:
    """Return the record of a call to a model, as it is known at its start.

    Args:
        metadata: the run's metadata, with LangChain's ``ls_`` entries.
        params: the parameters of the request, as the integration package names them.
        capture_content: whether content is recorded.
    """
    model = metadata.get("ls_model_name") or params.get("model") or params.get("model_name")
    record = Chat(
        provider=provider(metadata, params),
        model=model if isinstance(model, str) else None,
        draft=Draft(kept=capture_content),
        stream=True if params.get("stream") is True else None,
        outer=True,
    )
    for name in _FLOATS & params.keys():
        if is_a(value := params[name], (int, float)):
            setattr(record, name, float(value))
    for name, field in _INTEGERS.items():
        if name in params and (count := whole(params, name)) is not None:
            setattr(record, field, count)
    if "n" in params and (count := whole(params, "n")) != 1:
        record.choice_count = count
    stop = params.get("stop")
    if isinstance(stop, list) and stop:
        record.stop_sequences = [one for one in stop if isinstance(one, str)]
    offered = params.get("tools")
    if capture_content and isinstance(offered, list) and offered:
        record.tools = [_tool(one) for one in offered]
    return record


_FLOATS: Final = frozenset({"frequency_penalty", "presence_penalty", "temperature", "top_p"})
_INTEGERS: Final = {  # parameter -> field of the record; the last one that is set counts
    "max_completion_tokens": "max_tokens",
    "max_tokens": "max_tokens",
    "seed": "seed",
    "top_k": "top_k",
}


def _tool(raw: Any) -> Any:
    """Read the definition of a tool in OpenAI's format or Anthropic's."""
    if isinstance(raw, Mapping) and "input_schema" in raw:  # Anthropic's
        return tool({"name": raw.get("name"), "description": raw.get("description"), "parameters": raw["input_schema"]})
    return tool(raw)


def message(raw: Any) -> Message:
    """Read one of LangChain's messages, or a dict or a text in place of one."""
    if isinstance(raw, str):
        return {"role": "user", "parts": [{"type": "text", "content": raw}]}
    known = fields(raw)
    kind = text(known, "type") or text(known, "role") or "user"
    if kind == "tool":
        return {
            "role": "tool",
            "parts": [tool_call_response(_flat(known.get("content")), text(known, "tool_call_id"))],
        }
    said: Message = {"role": text(known, "role") or _ROLES.get(kind, kind), "parts": parts(raw)}
    if name := text(known, "name"):
        said["name"] = name
    return said


def messages(raw: Any) -> list[Message]:
    """Read LangChain's messages."""
    return [message(one) for one in raw]


def parts(raw: Any) -> list[Part]:
    """Read the parts of a message: reasoning, text and media, and tool calls, valid or not."""
    known = fields(raw)
    content = known.get("content")
    found: list[Part] = []
    if isinstance(content, str) and content:
        found.append({"type": "text", "content": content})
    elif isinstance(content, list):
        found += [_block(block) for block in content if _is_said(block)]
    if (more := known.get("additional_kwargs")) and (thought := text(fields(more), "reasoning_content")):
        found.insert(0, {"type": "reasoning", "content": thought})
    for call in items(known, "tool_calls"):
        found.append(tool_call(dig(call, "name", str) or "", get(call, "args"), dig(call, "id", str)))
    for call in items(known, "invalid_tool_calls"):
        arguments = dig(call, "args", str)
        found.append(tool_call(dig(call, "name", str) or "", arguments, dig(call, "id", str)))
    return found


def _is_said(block: Any) -> bool:
    """Return whether a content block is read; tool calls are not, as the message lists them besides."""
    return not isinstance(block, dict) or block.get("type") not in {
        "tool_use",
        "function_call",
        "tool_call",
        "input_json_delta",
    }


def _block(block: Any) -> Part:
    """Read a content block of LangChain, Anthropic or OpenAI."""
    kind = get(block, "type")
    if kind in {"thinking", "reasoning"}:
        thought = dig(block, "thinking", str) or dig(block, "reasoning", str) or _summary(block)
        return {"type": "reasoning", "content": thought}
    if kind in {"image", "audio", "file"}:
        modality = "document" if kind == "file" else kind
        source = get(block, "source") or block
        if url := dig(source, "url", str):
            return {"type": "uri", "modality": modality, "uri": url}
        if data := dig(source, "data", str) or dig(source, "base64", str):
            mime_type = dig(source, "media_type", str) or dig(source, "mime_type", str) or ""
            return {"type": "blob", "modality": modality, "content": data, "mime_type": mime_type}
    return part(block)


def _summary(block: Any) -> str:
    """Return the summary of a block of reasoning, one paragraph a line."""
    return "\n".join(dig(one, "text", str) or "" for one in items(block, "summary"))


def _flat(content: Any) -> Any:
    """Return a tool's answer: texts of a list joined, JSON parsed, anything else as it is."""
    if isinstance(content, list):
        texts = [one if isinstance(one, str) else dig(one, "text", str) for one in content]
        return "".join(one for one in texts if one is not None) if all(t is not None for t in texts) else content
    return loads(content) if isinstance(content, str) and content[:1] in {"{", "["} else content


def observe(record: Chat, result: Any) -> None:
    """Read an LLMResult: the answers to its first prompt, and the usage as LangChain has read it from the provider."""
    answer = fields(result)
    for index, generation in enumerate((items(answer, "generations") or [[]])[0]):
        known = fields(generation)
        choice, said = record.draft.choice(index), known.get("message")
        told = fields(said)
        for piece in parts(said) if said is not None else _text(generation):
            choice.add(piece)
        facts, info = told.get("response_metadata"), known.get("generation_info")
        reason = _first(str, facts, info, names=("finish_reason", "stop_reason", "done_reason"))
        choice.finish_reason = REASONS.get(reason or "", reason) or ("tool_calls" if record.draft.call_ids else "stop")
        if (model := _first(str, facts, info, names=("model_name", "model"))) is not None:
            record.response_model = model
        if facts and (id := dig(facts, "id", str)):
            record.response_id = id
        if usage := told.get("usage_metadata"):
            _count(record, usage)
    if not (output := answer.get("llm_output")):
        return
    if model := dig(output, "model_name", str):
        record.response_model = model
    if record.input_tokens is None and (usage := get(output, "token_usage") or get(output, "usage")):
        record.input_tokens = _first(int, usage, names=("prompt_tokens", "input_tokens"))
        record.output_tokens = _first(int, usage, names=("completion_tokens", "output_tokens"))


def _text(generation: Any) -> list[Part]:
    """Read the text of a generation that has no message."""
    said = text(fields(generation), "text")
    return [{"type": "text", "content": said}] if said else []


def _first(want: type, *holders: Any, names: tuple[str, ...]) -> Any:
    """Return the first value of type *want* under any of *names* in any of *holders*; None if there is none."""
    for holder in holders:
        for name in names if holder else ():
            if (found := dig(holder, name, want)) is not None:
                return found
    return None


def _count(record: Chat, usage: Any) -> None:
    """Read the token counts of LangChain's ``UsageMetadata``."""
    known = fields(usage)
    for holder, table in _USAGE.items():
        if counts := fields(known.get(holder)) if holder else known:
            for name, field in table.items():
                if (tokens := whole(counts, name)) is not None:
                    setattr(record, field, tokens)


_USAGE: Final = {  # field of the usage that holds the counts ("": itself) -> name of a count -> field of the record
    "": {"input_tokens": "input_tokens", "output_tokens": "output_tokens"},
    "input_token_details": {
        "cache_read": "cache_read_tokens",
        "cache_creation": "cache_write_tokens",
        "audio": "audio_input_tokens",
    },
    "output_token_details": {"reasoning": "reasoning_tokens", "audio": "audio_output_tokens"},
}


def plain(value: Any, depth: int = 0) -> Any:
    """Return the input or output of a runnable as small plain data, for JSON.

    Messages become OpenAI's dicts of role and content, documents their text and metadata, LangGraph's commands their
    fields. Values nested deeper than 20 levels become text, and objects of other classes stay as they are.
    """
    if type(value) in _SCALARS or isinstance(value, (str, int, float)):
        return value
    if depth > _DEEPEST:
        return str(value)
    if (form := _form(type(value))) is not None:  # type: ignore[arg-type]  # mypy: type[Any] is not hashable
        return form(value)
    if isinstance(value, (dict, Mapping)):  # dict first, as a check against Mapping takes several times as long
        said = {}
        for key, one in value.items():
            plainly = type(one) in _SCALARS
            said[str(key)] = one if plainly else _messages(one) if key == "messages" else plain(one, depth + 1)
        return said
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [plain(one, depth + 1) for one in value]
    if isinstance(get(value, "type"), str) and hasattr(value, "response_metadata"):
        return _said(value)
    if hasattr(value, "page_content"):
        return document(value)
    messages = getattr(value, "messages", None)  # a prompt has them
    if isinstance(messages, list):
        return [plain(one, depth + 1) for one in messages]
    if names := _STEERING.get(type(value).__name__):  # LangGraph's Command and Send
        told = {name: plain(getattr(value, name, None), depth + 1) for name in names}
        return {name: one for name, one in told.items() if one not in (None, [], ())}
    return value


@lru_cache(maxsize=1000)
def _form(cls: type) -> Callable[[Any], Any] | None:
    """Return the formatter for objects of one of LangChain's classes; None for any other class.

    Knowing it by the class avoids probing each object: on a pydantic model, the lookup of an attribute that it lacks
    takes longer than all the rest.
    """
    own = [base.__name__ for base in cls.__mro__ if base.__module__.startswith("langchain_core.")]
    return next((_FORMS[name] for name in own if name in _FORMS), None)


_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_STEERING: Final = {"Command": ("update", "goto", "resume", "graph"), "Send": ("node", "arg")}


_DEEPEST: Final = 20


def _messages(value: Any) -> Any:
    """Simplify the messages of a state, some of which may be pairs of role and text."""
    if not isinstance(value, list):
        return plain(value)
    pairs = [one if isinstance(one, tuple) and len(one) == _PAIR else None for one in value]
    return [
        plain(one) if pair is None else {"role": pair[0], "content": pair[1]}
        for one, pair in zip(value, pairs, strict=True)
    ]


_PAIR: Final = 2


def state_keys(outputs: Any) -> list[str]:
    """Return the keys of a graph's state that a node's outputs change, sorted."""
    if type(outputs) is dict:
        return sorted(map(str, outputs))
    several = outputs if isinstance(outputs, list) else [outputs]
    changes = [one if isinstance(one, (dict, Mapping)) else get(one, "update") for one in several]
    return sorted({str(key) for change in changes if isinstance(change, (dict, Mapping)) for key in change})


def _said(value: Any) -> dict[str, Any]:
    """Return a message as OpenAI writes it, which viewers know how to show."""
    kind, known = value.type, fields(value)
    said: dict[str, Any] = {"role": _ROLES.get(kind, kind), "content": value.content}
    if calls := known.get("tool_calls"):
        said["tool_calls"] = [_called(call) for call in calls]
    if call_id := known.get("tool_call_id"):
        said["tool_call_id"] = call_id
    return said


def _prompt(value: Any) -> list[Any]:
    """Return the messages of a prompt value."""
    return [plain(one) for one in value.messages]


def _called(call: Any) -> dict[str, Any]:
    """Return a tool call as OpenAI writes it, which viewers know how to show."""
    function = {"name": call.get("name"), "arguments": to_json(call.get("args"))}
    return {"id": call.get("id"), "type": "function", "function": function}


def document(value: Any) -> dict[str, Any]:
    """Return a retrieved document as a dict of id, score, content and metadata.

    Vector stores put the score into the metadata. A document without one gets 1.0, as the conventions require a score.
    """
    metadata = get(value, "metadata") or {}
    score = _first(float, metadata, names=("score", "relevance_score", "_score"))
    return {
        "id": str(get(value, "id") or metadata.get("id") or metadata.get("source") or ""),
        "score": 1.0 if score is None else score,
        "content": get(value, "page_content"),
        "metadata": dict(metadata),
    }


_FORMS: Final[dict[str, Callable[[Any], Any]]] = {
    "BaseMessage": _said,
    "ChatPromptValue": _prompt,
    "Document": document,
}
