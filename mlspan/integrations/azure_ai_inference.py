"""Azure AI Inference's Python client, sync and async: chats, streams, and embeddings of texts and pictures.

A chat's arguments, which may be defaults of the client, and its answers are those of OpenAI's chat completions.

The client can open OpenTelemetry spans of its own for chats, if a program asks ``AIInferenceInstrumentor`` for it.
While mlspan records, it opens none.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

from .._shape import get_field, get_list, get_nested
from ..hooks.call import Begin, Call
from ..hooks.hook import Hook, trace_methods
from ..hooks.patching import Undo, install_when_imported, set_attribute
from ..hooks.requests import find_provider_by_url
from ..tracing.operations.records import Chat, Embeddings, Observe
from .openai.methods import make_chat, make_embeddings, observe_chat, observe_embeddings

__all__ = ["HOOK", "autolog"]

# Private fields of the client, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_config": "the address of the server",
    "_dimensions": "a default of the client's",
    "_frequency_penalty": "a default of the client's",
    "_max_tokens": "likewise",
    "_model": "likewise",
    "_presence_penalty": "likewise",
    "_seed": "likewise",
    "_stop": "likewise",
    "_temperature": "likewise",
    "_tools": "likewise",
    "_top_p": "likewise",
}

_CHAT_DEFAULTS: Final = (
    *("_frequency_penalty", "_max_tokens", "_model", "_presence_penalty", "_seed"),
    *("_stop", "_temperature", "_tools", "_top_p"),
)
_OWN: Final = "azure.ai.inference.tracing"  # the module that opens the client's own spans
_LOSS: Final = "nothing, but the client's own spans stand beside ours"


def _find_endpoint(call: Call) -> str | None:
    return get_nested(call.args[0], "_config.endpoint", str)


def _find_provider(url: str | None) -> str:
    return find_provider_by_url(url) or "azure.ai.inference"


def _read_body(call: Call, fields: tuple[str, ...]) -> dict[str, object]:
    """Return the body of a request: the caller's own, or its arguments over the client's defaults in *fields*."""
    body = call.argument("body")
    if isinstance(body, Mapping):
        return dict(body)
    defaults = {field[1:]: getattr(call.args[0], field, None) for field in fields}
    given = {name: value for name, value in call.kwargs.items() if value is not None}
    return {name: _to_plain(value) for name, value in {**defaults, **given}.items() if value is not None}


def _to_plain(value: Any) -> object:
    """Return the client's models, also in a list, as the dicts that are sent, and anything else as it is."""
    if isinstance(value, (list, tuple)):
        return [_to_plain(one) for one in value]
    return value.as_dict() if hasattr(type(value), "as_dict") else value


def _begin_chat(call: Call) -> tuple[Chat, Observe[Chat]]:
    url, body = _find_endpoint(call), _read_body(call, _CHAT_DEFAULTS)
    chat = make_chat(_find_provider(url), url, body, capture_content=call.capture_content)
    wanted = body.get("response_format")
    if wanted is not None and chat.output_type is None:
        chat.output_type = "text" if wanted == "text" else "json"  # "json_object", or a schema
    return chat, _observe_chat


def _observe_chat(chat: Chat, got: object) -> None:
    """Read an answer or a chunk, which are the client's models."""
    observe_chat(chat, _to_plain(got))


def _begin_embeddings(call: Call) -> tuple[Embeddings, Observe[Embeddings]]:
    url, body = _find_endpoint(call), _read_body(call, ("_model", "_dimensions"))
    record = make_embeddings(_find_provider(url), url, body, capture_content=call.capture_content)
    record.dimensions = get_nested(body, "dimensions", int)
    return record, _observe_embeddings


def _observe_embeddings(record: Embeddings, got: object) -> None:
    """Read the answer; of its vectors, which may be many, only the first is looked at."""
    model, usage, vectors = get_field(got, "model"), get_field(got, "usage"), get_list(got, "data")
    observe_embeddings(record, {"model": model, "usage": _to_plain(usage), "data": vectors[:1]})


def _list_methods() -> dict[str, Begin]:
    """Return each method that is traced, with its ``begin``."""
    classes: dict[str, Begin] = {
        "ChatCompletionsClient.complete": _begin_chat,
        "EmbeddingsClient.embed": _begin_embeddings,
        "ImageEmbeddingsClient.embed": _begin_embeddings,
    }
    modules = ("azure.ai.inference", "azure.ai.inference.aio")
    return {f"{module}:{method}": begin for module in modules for method, begin in classes.items()}


class _Settings:
    """Azure's settings, which name no implementation of tracing while mlspan records."""

    def __init__(self, own: Any, hook: Hook) -> None:
        self._own, self._hook = own, hook

    def tracing_implementation(self) -> Any:
        return None if self._hook.should_record() else self._own.tracing_implementation()

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)


def _hold_back(hook: Hook) -> Undo:
    own: Any = sys.modules[_OWN]
    return set_attribute(own, "settings", _Settings(own.settings, hook))


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        undo.callback(trace_methods(_list_methods())(hook))
        undo.callback(install_when_imported(_OWN, functools.partial(_hold_back, hook), loss=_LOSS))
        return undo.pop_all().close


HOOK = Hook("azure-ai-inference>=1.0.0,<2", "azure.ai.inference", _install)
autolog = HOOK.autolog
