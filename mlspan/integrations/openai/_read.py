"""One request of OpenAI's client, and readers that all endpoints share: server, tools and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from ..._shape import get_field, get_fields, get_list, get_nested, is_a
from ...hooks.openai_format import read_openai_tool
from ...hooks.requests import find_provider_by_host, read_host_and_port
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import ToolDefinition

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_base_url": "nothing: the public property is read, which takes longer",
}

RequestBody = Mapping[str, Any]


class OpenAIRequest(NamedTuple):
    """One request, as the ``begin`` of an endpoint reads it.

    Attributes:
        client: the ``OpenAI`` or ``AsyncOpenAI`` that sends it.
        options: the client's ``FinalRequestOptions``.
        body: the JSON body, ``extra_body`` included.
        capture_content: whether messages and other content are recorded.
        autolog_options: the options of ``autolog`` that only this integration has.
        provider: whose client it is, the provider where neither its class nor the host says more.
    """

    client: Any
    options: Any
    body: RequestBody
    capture_content: bool
    autolog_options: Mapping[str, object]
    provider: str = "openai"

    def read_server_fields(self) -> dict[str, Any]:
        """Return the record's fields ``provider``, ``server_address`` and ``server_port``."""
        if "://" in self.options.url:  # the caller's own URL, which need not be that of the client
            return _find_server_fields(self.client, self.options.url, self.provider)
        client = self.client
        url = get_fields(client).get("_base_url") or client.base_url  # the property imports something on each access
        try:
            cached = _server_fields_by_client.get(client)
            if cached is None or cached[0] is not url:
                cached = _server_fields_by_client[client] = (url, _find_server_fields(client, url, self.provider))
            return cached[1]
        except TypeError:  # the application's own subclass, which cannot be hashed
            return _find_server_fields(client, url, self.provider)


def _find_server_fields(client: object, url: Any, otherwise: str) -> dict[str, Any]:
    host, port = read_host_and_port(url)
    return {
        "provider": find_client_provider(client, host or "", otherwise),
        "server_address": host,
        "server_port": port,
    }


# Client -> its URL, and the fields read from it. They are compared by identity, as comparing URLs is slow.
_server_fields_by_client: Final[WeakKeyDictionary[object, tuple[object, dict[str, object]]]] = WeakKeyDictionary()


def find_client_provider(client: object, host: str, otherwise: str = "openai") -> str:
    """Return the conventions' provider name by the client's class, else by *host*; *otherwise* if neither is known."""
    if "Azure" in type(client).__name__:
        return "azure.ai.openai"
    return find_provider_by_host(host) or otherwise


def read_error(error: object) -> tuple[str, str]:
    """Return type and message of an error that an answer reports: its code, else its type, else ``_OTHER``."""
    if isinstance(error, str):
        return sc.ERROR_OTHER, error
    code, kind = get_field(error, "code"), get_nested(error, "type", str)
    if is_a(code, int):  # OpenRouter's are the statuses of HTTP
        code = str(code)
    named = code if isinstance(code, str) and code else kind if kind != "error" else None
    return named or sc.ERROR_OTHER, get_nested(error, "message", str) or ""


def read_tool_definitions(body: RequestBody, *names: str) -> list[ToolDefinition] | None:
    """Read the tool definitions in the lists called *names*; None if there are none."""
    return [read_openai_tool(raw) for name in names if name in body for raw in get_list(body, name)] or None


def describe_file(raw: object) -> Any:
    """Return name and size of a file, ``{"name": ..., "bytes": ...}``, as far as they are known.

    *raw* is a file as the client accepts it: bytes, a path, an open file, or a tuple of a name and one of them. The
    file is not read.
    """
    if isinstance(raw, (list, tuple)) and raw and not hasattr(raw, "read"):
        named = describe_file(raw[1]) if len(raw) > 1 else {}
        return {"name": raw[0], **named} if isinstance(raw[0], str) else named
    if isinstance(raw, (bytes, bytearray)):
        return {"bytes": len(raw)}
    name = getattr(raw, "name", None)
    known: dict[str, object] = {"name": str(name).rpartition("/")[2]} if name is not None else {}
    buffer = getattr(raw, "getbuffer", None)
    if buffer is not None:
        known["bytes"] = len(buffer())
    return known


def describe_sent_files(options: Any) -> dict[str, list[object]]:
    """Return the descriptions of the files of a multipart request, by field name."""
    sent = options.files if isinstance(getattr(options, "files", None), (list, tuple, dict)) else ()
    found: dict[str, list[Any]] = {}
    for name, raw in sent.items() if isinstance(sent, dict) else sent:
        found.setdefault(str(name).partition("[")[0], []).append(describe_file(raw))
    return found
