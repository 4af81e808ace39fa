"""Mistral's Python client: chats, completions with a gap to fill, agents by their id, and embeddings.

Each method takes the body of its request as keyword arguments, nearly all of them by OpenAI's names, and answers in
OpenAI's format. A stream's events hold its chunks.

The client can open OpenTelemetry spans of its own; while mlspan records a call, its span is held back.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import Any, Final

from opentelemetry import trace

from .._shape import get_field, get_nested
from ..hooks.call import Begin, Call
from ..hooks.hook import Hook, trace_methods
from ..hooks.own_spans import is_request_recorded, suppress_own_spans
from ..hooks.patching import Undo, apply_patches
from ..tracing.operations import semconv as sc
from ..tracing.operations.records import Chat, Embeddings, Observe
from .openai.methods import append_text_chunk, make_chat, make_embeddings, observe_chat, observe_embeddings

__all__ = ["HOOK", "autolog"]

# The function that says whether the client traces a request; its module is private. Without it both spans are recorded.
_OWN_SPANS: Final = ("mistralai.client._hooks.tracing:get_or_create_otel_tracer",)
_PROVIDER: Final = "mistral_ai"


def _find_url(call: Call) -> object:
    """Return this call's server, else the client's, else Mistral's default, which the client does not store."""
    own = call.kwargs.get("server_url")
    return own if isinstance(own, str) else get_nested(call.args[0], "sdk_configuration.server_url", str) or _MISTRAL


_MISTRAL: Final = "https://api.mistral.ai"


def _begin_chat(call: Call, *, stream: bool = False) -> tuple[Chat, Observe[Chat]]:
    body = {**call.kwargs, "stream": stream}
    chat = make_chat(_PROVIDER, _find_url(call), body, capture_content=call.capture_content)
    chat.seed = get_nested(body, "random_seed", int)
    if agent := get_nested(body, "agent_id", str):
        chat.extra[sc.AGENT_ID] = agent
    return chat, _observe_chunk_event if stream else _observe


def _begin_fill(call: Call, *, stream: bool = False) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of a completion between a ``prompt`` and a ``suffix``."""
    chat, observe = _begin_chat(call, stream=stream)
    chat.operation = sc.TEXT_COMPLETION
    if call.capture_content:
        texts = [get_nested(call.kwargs, name, str) for name in ("prompt", "suffix")]
        chat.input = [{"role": "user", "parts": [{"type": "text", "content": text} for text in texts if text]}]
    return chat, observe


def _observe_chunk_event(chat: Chat, got: Any) -> None:
    """Read an event of a stream, which holds a chunk; one that holds text alone, as nearly all do, is read at once."""
    try:
        chunk = got.data
    except AttributeError:  # of another shape, or plain JSON
        _observe(chat, got)
        return
    if not (chat.response_id and append_text_chunk(chat.draft, chunk)):
        _observe(chat, got)


def _observe(chat: Chat, got: object) -> None:
    """Read a whole answer, or an event of a stream."""
    observe_chat(chat, got if (chunk := get_field(got, "data")) is None else chunk)


def _begin_embeddings(call: Call) -> tuple[Embeddings, Observe[Embeddings]]:
    body = {**call.kwargs, "input": call.kwargs.get("inputs")}
    record = make_embeddings(_PROVIDER, _find_url(call), body, capture_content=call.capture_content)
    record.dimensions = get_nested(body, "output_dimension", int)
    return record, observe_embeddings


def _list_methods() -> dict[str, Begin]:
    """Return each method that is traced, with its ``begin``."""
    methods: dict[str, Begin] = {}
    for where, begin in (("chat:Chat", _begin_chat), ("agents:Agents", _begin_chat), ("fim:Fim", _begin_fill)):
        for name in ("complete", "complete_async"):
            methods[f"mistralai.client.{where}.{name}"] = begin
        for name in ("stream", "stream_async"):
            methods[f"mistralai.client.{where}.{name}"] = functools.partial(begin, stream=True)
    for name in ("create", "create_async"):
        methods[f"mistralai.client.embeddings:Embeddings.{name}"] = _begin_embeddings
    return methods


def _make_no_tracer() -> tuple[bool, trace.Tracer]:
    """Return what the client has where nobody has set up OpenTelemetry."""
    return False, trace.NoOpTracer()


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        undo.callback(trace_methods(_list_methods())(hook))
        own = suppress_own_spans(hook, _OWN_SPANS, applies=lambda _: is_request_recorded(), instead=_make_no_tracer)
        undo.callback(apply_patches(patch._replace(is_optional=True) for patch in own))
        return undo.pop_all().close


HOOK = Hook("mistralai>=3,<4", "mistralai.client", _install)
autolog = HOOK.autolog
