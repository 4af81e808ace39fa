"""Ollama's Python client: chats, completions and embeddings, by its classes and by the functions of its module.

Every method calls ``_request`` with a path and a body that is plain JSON already. The module's functions are methods
of one client, taken when the module was imported; so the method below all of them is what is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .._shape import get_count, get_field, get_fields, get_nested, get_text, list_items, list_texts
from ..hooks.call import BegunCall, Call
from ..hooks.hook import Hook, trace_methods
from ..hooks.openai_format import read_openai_tool
from ..hooks.requests import FieldMapping, find_base_url, read_server_fields, set_parameters
from ..tracing.operations import semconv as sc
from ..tracing.operations.content import to_json
from ..tracing.operations.message_drafts import OutputDraft
from ..tracing.operations.messages import Message, Part, make_tool_call, make_tool_call_response
from ..tracing.operations.records import Chat, Embeddings, Observe

__all__ = ["HOOK", "autolog"]

PRIVATE_NAMES: Final[dict[str, str]] = {"_request": "all calls of the client"}

_OPTIONS: Final[FieldMapping] = {  # of a request's options -> field of the record
    "frequency_penalty": ("frequency_penalty", float),
    "num_predict": ("max_tokens", int),
    "presence_penalty": ("presence_penalty", float),
    "seed": ("seed", int),
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
}


def _begin_request(call: Call) -> BegunCall | None:
    """Select the endpoint by its path, and begin its record; None for a request that is not recorded."""
    body = call.kwargs.get("json")
    begin = next((_ENDPOINTS[path] for path in call.args if isinstance(path, str) and path in _ENDPOINTS), None)
    return begin(call, body) if begin is not None and isinstance(body, dict) else None


def _make_chat(call: Call, body: Mapping[str, Any], operation: str) -> Chat:
    """Return the record of a chat or of a completion, with the parameters of the request."""
    chat = Chat(
        operation=operation,
        provider="ollama",
        model=get_nested(body, "model", str),
        draft=OutputDraft(kept=call.capture_content),
        stream=True if body.get("stream") is True else None,
        **read_server_fields(find_base_url(call.args[0])),
    )
    options = body.get("options")
    if isinstance(options, dict):
        set_parameters(chat, options, _OPTIONS)
        stop = options.get("stop")
        chat.stop_sequences = [stop] if isinstance(stop, str) else list_items(stop) or None
    if body.get("format"):
        chat.output_type = "json"
    chat.reasoning_level = get_nested(body, "think", str)
    return chat


def _begin_chat(call: Call, body: Mapping[str, object]) -> tuple[Chat, Observe[Chat]]:
    chat = _make_chat(call, body, sc.CHAT)
    if call.capture_content:
        chat.input = [_read_message(raw) for raw in list_items(body.get("messages"))]
        chat.tools = [read_openai_tool(raw) for raw in list_items(body.get("tools"))] or None
    return chat, _observe_chat


def _read_message(raw: object) -> Message:
    """Read a message of a request. A tool's result names the tool, and no call."""
    role, text = get_nested(raw, "role", str) or "user", get_nested(raw, "content", str)
    if role == "tool":
        return {"role": role, "parts": [make_tool_call_response(text)]}
    parts: list[Part] = []
    if thought := get_nested(raw, "thinking", str):
        parts.append({"type": "reasoning", "content": thought})
    if text:
        parts.append({"type": "text", "content": text})
    parts += _read_images(raw)
    for call in list_items(get_field(raw, "tool_calls")):
        function = get_field(call, "function")
        parts.append(make_tool_call(get_nested(function, "name", str) or "", get_field(function, "arguments")))
    return {"role": role, "parts": parts}


def _read_images(raw: object) -> list[Part]:
    """Read pictures, which the client has turned into base64."""
    return [{"type": "blob", "modality": "image", "content": data} for data in list_texts(get_field(raw, "images"))]


def _observe_chat(chat: Chat, got: object) -> None:
    """Read a whole answer, or a piece of a stream: the last one has the tokens."""
    if chat.response_model and _append_text_piece(chat, got, "message", "content"):
        return
    answer = get_fields(got)
    choice, said = chat.draft.get_choice(), get_fields(answer.get("message"))
    if thought := get_text(said, "thinking"):
        choice.add_text(thought, "reasoning")
    if text := get_text(said, "content"):
        choice.add_text(text)
    for call in list_items(said.get("tool_calls")):
        function = get_field(call, "function")
        choice.add_tool_call(None, None, get_nested(function, "name", str), to_json(get_field(function, "arguments")))
    _read_end(chat, answer)


def _append_text_piece(chat: Chat, got: Any, within: str | None, name: str) -> bool:
    """Append a piece that holds text and nothing else, as nearly all do; return False for any other.

    Each model is asked once for all that it has, as the ``__getattr__`` of pydantic makes every attribute slow to read.
    The text is in field *name* of what field *within* holds, or of the piece itself.
    """
    try:
        piece = said = got.__dict__
        if within is not None:
            said = piece[within].__dict__
        text = said[name]
        if piece["done"] or type(text) is not str or not text or said.get("thinking") or said.get("tool_calls"):
            return False
    except (AttributeError, KeyError):  # of another shape
        return False
    chat.draft.append_text(text)
    return True


def _begin_completion(call: Call, body: Mapping[str, object]) -> tuple[Chat, Observe[Chat]]:
    chat = _make_chat(call, body, sc.TEXT_COMPLETION)
    if call.capture_content:
        texts = [get_nested(body, name, str) for name in ("prompt", "suffix")]
        parts: list[Part] = [{"type": "text", "content": text} for text in texts if text]
        chat.input = [{"role": "user", "parts": [*parts, *_read_images(body)]}]
        if system := get_nested(body, "system", str):
            chat.system = [{"type": "text", "content": system}]
    return chat, _observe_completion


def _observe_completion(chat: Chat, got: object) -> None:
    if chat.response_model and _append_text_piece(chat, got, None, "response"):
        return
    answer = get_fields(got)
    choice = chat.draft.get_choice()
    if thought := get_text(answer, "thinking"):
        choice.add_text(thought, "reasoning")
    if text := get_text(answer, "response"):
        choice.add_text(text)
    _read_end(chat, answer)


def _read_end(chat: Chat, answer: Mapping[str, object]) -> None:
    """Read what the end of an answer tells: why it has ended, and the tokens."""
    chat.response_model = chat.response_model or get_text(answer, "model")
    if not answer.get("done"):
        return
    chat.draft.get_choice().finish_reason = get_text(answer, "done_reason") or "stop"
    chat.input_tokens = get_count(answer, "prompt_eval_count")
    chat.output_tokens = get_count(answer, "eval_count")


def _begin_embeddings(call: Call, body: Mapping[str, Any]) -> tuple[Embeddings, Observe[Embeddings]]:
    record = Embeddings(
        provider="ollama",
        model=get_nested(body, "model", str),
        dimensions=get_nested(body, "dimensions", int),
        **read_server_fields(find_base_url(call.args[0])),
    )
    if call.capture_content:
        record.input = body.get("input") or body.get("prompt")
    return record, _observe_embeddings


def _observe_embeddings(record: Embeddings, got: object) -> None:
    answer = get_fields(got)
    record.input_tokens = get_count(answer, "prompt_eval_count")
    vectors = list_items(answer.get("embeddings")) or [answer.get("embedding")]
    record.dimensions = len(list_items(vectors[0])) or record.dimensions


_ENDPOINTS: Final[Mapping[str, Callable[[Call, Mapping[str, Any]], BegunCall]]] = {
    "/api/chat": _begin_chat,
    "/api/generate": _begin_completion,
    "/api/embed": _begin_embeddings,
    "/api/embeddings": _begin_embeddings,
}
HOOK = Hook(
    "ollama>=0.4,<1",
    "ollama",
    trace_methods(dict.fromkeys(("ollama:Client._request", "ollama:AsyncClient._request"), _begin_request)),
)
autolog = HOOK.autolog
