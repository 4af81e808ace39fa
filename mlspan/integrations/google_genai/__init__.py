"""Google's Gen AI client, for Gemini on AI Studio and on Vertex AI: content, streams, chats, embeddings, functions.

Each request to a model is one span. A call that is given Python functions to call runs several requests; a span around
them holds the requests and the functions, each an ``execute_tool``. ``Chat.send_message`` calls the same methods.

The methods that send one request are private (``Models._generate_content`` and its kin, the same since version 1.0).
Where one is gone, a warning says which calls are not recorded.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from ..._shape import get_list, get_nested, read_count
from ...hooks.call import Call
from ...hooks.hook import Hook, trace_methods
from ...hooks.patching import Undo
from ...hooks.requests import read_host_and_port
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.records import Chat, Embeddings, Observe
from . import functions
from .answers import observe_answer, observe_chunk
from .contents import read_contents, read_tool_definitions
from .requests import read_config, read_model, set_config

__all__ = ["HOOK", "autolog"]

# Private names that some versions lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_api_client": "the provider's and the server's address",
    "_http_options": "the server's address",
}


def _read_server_fields(models: object) -> dict[str, Any]:
    """Return the record's fields ``provider``, ``server_address`` and ``server_port``, by the client behind *models*.

    The client's address is private; without it the two last are missing.
    """
    client = getattr(models, "_api_client", None)
    host, port = read_host_and_port(getattr(getattr(client, "_http_options", None), "base_url", None))
    provider = "gcp.vertex_ai" if getattr(client, "vertexai", None) is True else "gcp.gemini"
    return {"provider": provider, "server_address": host, "server_port": port}


def _begin_request(call: Call, *, stream: bool | None = None) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of one request for content."""
    config = call.argument("config")
    chat = Chat(
        operation=sc.GENERATE_CONTENT,
        model=read_model(call),
        stream=stream,
        draft=OutputDraft(kept=call.capture_content),
        **_read_server_fields(call.args[0]),
    )
    if call.capture_content:
        chat.input = read_contents(call.argument("contents"))
    if config is None:  # as in most calls
        return chat, observe_chunk if stream else observe_answer
    set_config(chat, config)
    if call.capture_content:
        system = read_contents(read_config(config, "system_instruction"))
        chat.system = [part for message in system for part in message["parts"]] or None
        chat.tools = read_tool_definitions(read_config(config, "tools"))
    return chat, observe_chunk if stream else observe_answer


def _begin_stream(call: Call) -> tuple[Chat, Observe[Chat]]:
    return _begin_request(call, stream=True)


def _begin_embeddings(call: Call) -> tuple[Embeddings, Observe[Embeddings]]:
    """Begin the record of a request for embeddings."""
    record = Embeddings(model=read_model(call), **_read_server_fields(call.args[0]))
    dimensions = read_config(call.argument("config"), "output_dimensionality")
    record.dimensions = dimensions if type(dimensions) is int else None
    if call.capture_content:
        parts: list[Any] = [part for one in read_contents(call.argument("contents")) for part in one["parts"]]
        record.input = [part["content"] for part in parts if part["type"] == "text"]
    return record, _observe_embeddings


def _observe_embeddings(record: Embeddings, got: object) -> None:
    """Read the tokens of each embedding, which only Vertex AI tells, and the length of the vectors."""
    found = get_list(got, "embeddings")
    counts = [read_count(get_nested(one, "statistics.token_count", object)) or 0 for one in found]
    record.input_tokens = sum(counts) or None
    if found and record.dimensions is None:
        record.dimensions = len(get_list(found[0], "values")) or None


_MODELS: Final = "google.genai.models"
_trace_requests: Final = trace_methods(
    {
        f"{_MODELS}:{cls}.{name}": begin
        for cls in ("Models", "AsyncModels")
        for name, begin in (
            ("_generate_content", _begin_request),
            ("_generate_content_stream", _begin_stream),
            ("embed_content", _begin_embeddings),
        )
    }
)


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        undo.callback(_trace_requests(hook))
        undo.callback(functions.install(hook))
        return undo.pop_all().close


HOOK = Hook("google-genai>=1.20,<4", "google.genai", _install)
autolog = HOOK.autolog
