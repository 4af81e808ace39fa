"""Hugging Face's ``InferenceClient`` and its asynchronous twin: chats and embeddings, of whichever provider it asks.

A chat has OpenAI's arguments and OpenAI's answers. ``client.chat.completions.create`` is the same method.
"""

from __future__ import annotations

from typing import Final

from .._shape import get_nested
from ..hooks.call import Begin, Call
from ..hooks.hook import Hook, trace_methods
from ..hooks.requests import find_provider_by_url
from ..tracing.operations.records import Chat, Embeddings, Observe
from .openai.methods import make_chat, make_embeddings, observe_chat

__all__ = ["HOOK", "autolog"]

# Modules of the two classes, which are public elsewhere: their import there would be an import of the library.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_async_client": "all calls of the asynchronous client",
    "_generated": "likewise",
}

_ROUTER: Final = "https://router.huggingface.co"


def _begin_chat(call: Call) -> tuple[Chat, Observe[Chat]]:
    url, model = _find_url_and_model(call)
    more = call.kwargs.get("extra_body")
    body = {**call.kwargs, "messages": call.argument("messages"), **(more if isinstance(more, dict) else {})}
    chat = make_chat(find_provider_by_url(url) or "huggingface", url, body, capture_content=call.capture_content)
    chat.model = model
    return chat, _observe_chat


def _observe_chat(chat: Chat, got: object) -> None:
    """Read an answer or a chunk by its attributes: as a dict it lacks fields that only some servers send."""
    observe_chat(chat, _read_attributes(got))


def _read_attributes(value: object) -> object:
    if isinstance(value, list):
        return [_read_attributes(one) for one in value]
    known = getattr(value, "__dict__", None)
    return {name: _read_attributes(one) for name, one in known.items()} if known else value


def _begin_embeddings(call: Call) -> tuple[Embeddings, Observe[Embeddings]]:
    url, model = _find_url_and_model(call)
    body = {"model": model, "input": call.argument("text")}
    provider = find_provider_by_url(url) or "huggingface"
    return make_embeddings(provider, url, body, capture_content=call.capture_content), _observe_embeddings


def _observe_embeddings(record: Embeddings, got: object) -> None:
    """Read the length of the vectors, which come as an array; nothing tells the tokens."""
    shape = getattr(got, "shape", None)
    if isinstance(shape, tuple) and shape and isinstance(shape[-1], int):
        record.dimensions = shape[-1]


def _find_url_and_model(call: Call) -> tuple[str, str | None]:
    """Return the address of the server and the name of the model; either may be what the client calls its model."""
    own, asked = get_nested(call.args[0], "model", str), call.argument("model", want=str)
    url = next((name for name in (asked, own) if name and name.startswith(("http://", "https://"))), _ROUTER)
    return url, next((name for name in (asked, own) if name and name != url), None)


def _make_client_hook(module: str, cls: str, *also: Hook) -> Hook:
    methods: dict[str, Begin] = {"chat_completion": _begin_chat, "feature_extraction": _begin_embeddings}
    traced = trace_methods({f"{module}:{cls}.{name}": begin for name, begin in methods.items()})
    return Hook("huggingface-hub>=1,<3", module, traced, also=also)


_ASYNC_HOOK: Final = _make_client_hook("huggingface_hub.inference._generated._async_client", "AsyncInferenceClient")
HOOK = _make_client_hook("huggingface_hub.inference._client", "InferenceClient", _ASYNC_HOOK)
autolog = HOOK.autolog
