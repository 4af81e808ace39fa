"""One request of OpenAI's client, and readers that all endpoints share: server, parameters, usage, tools and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from ..._shape import fields, is_a, items, whole
from ...hooks.openai_format import provider_at, tool
from ...tracing.operations.messages import ToolDefinition
from ...tracing.operations.records import ModelCall, Record

Body = Mapping[str, Any]


class Ask(NamedTuple):
    """One request, as the ``begin`` of an endpoint reads it.

    Attributes:
        client: the ``OpenAI`` or ``AsyncOpenAI`` that sends it.
        options: the client's ``FinalRequestOptions``.
        body: the JSON body, ``extra_body`` included.
        capture_content: whether messages and other content are recorded.
        autolog_options: the options of ``autolog`` that only this integration has.
    """

    client: Any
    options: Any
    body: Body
    content: bool
    settings: Mapping[str, Any]

    def server(self) -> dict[str, Any]:
        """Return the record's fields ``provider``, ``server_address`` and ``server_port``."""
        client = self.client
        url = fields(client).get("_base_url") or client.base_url  # the property imports something on each access
        cached = _servers.get(client)
        if cached is None or cached[0] is not url:
            host, port = server(url)
            found = {"provider": provider(client, host), "server_address": host, "server_port": port}
            cached = _servers[client] = (url, found)
        return cached[1]


# Client -> its URL, and the fields read from it. They are compared by identity, as comparing URLs is slow.
_servers: Final[WeakKeyDictionary[Any, tuple[Any, dict[str, Any]]]] = WeakKeyDictionary()


def server(url: Any) -> tuple[str, int | None]:
    """Return host and port of an ``httpx.URL``; the port is the scheme's own if the URL has none."""
    return url.host, url.port or {"https": 443, "http": 80, "wss": 443, "ws": 80}.get(url.scheme)


def provider(client: Any, host: str) -> str:
    """Return the conventions' provider name by the client's class, else by *host*; ``openai`` if neither is known."""
    if "Azure" in type(client).__name__:
        return "azure.ai.openai"
    return provider_at(host) or "openai"


Fields = Mapping[str, tuple[str, Any]]  # field of a body -> field of the record, and its type


def fill(record: Record, body: Body, wanted: Fields) -> None:
    """Copy the *wanted* fields of *body* into *record*; a value of another type is left out. Floats may be integers."""
    for name, value in body.items():
        if name not in wanted:
            continue
        field, kind = wanted[name]
        if kind is float and is_a(value, (int, float)):
            setattr(record, field, float(value))
        elif kind is not float and is_a(value, kind):
            setattr(record, field, value)


def count(call: ModelCall, usage: Any, *tables: Mapping[str, str]) -> None:
    """Read token counts into the fields of *call*.

    Each table maps a count's name to a field of the record. The entry ``"in"``, if a table has one, names the object
    inside *usage* that holds the counts, such as ``prompt_tokens_details``.
    """
    if usage is None:
        return
    known = fields(usage)
    for table in tables:
        if "in" not in table:
            counts = known
        elif not (counts := fields(known.get(table["in"]))):
            continue
        for name, field in table.items():
            if (tokens := whole(counts, name)) is not None:
                setattr(call, field, tokens)


def tools(body: Body, *names: str) -> list[ToolDefinition] | None:
    """Read the tool definitions in the lists called *names*; None if there are none."""
    return [tool(raw) for name in names if name in body for raw in items(body, name)] or None


def weight(raw: Any) -> Any:
    """Return name and size of a file, ``{"name": ..., "bytes": ...}``, as far as they are known.

    *raw* is a file as the client accepts it: bytes, a path, an open file, or a tuple of a name and one of them. The
    file is not read.
    """
    if isinstance(raw, (list, tuple)) and raw and not hasattr(raw, "read"):
        named = weight(raw[1]) if len(raw) > 1 else {}
        return {"name": raw[0], **named} if isinstance(raw[0], str) else named
    if isinstance(raw, (bytes, bytearray)):
        return {"bytes": len(raw)}
    name = getattr(raw, "name", None)
    known: dict[str, Any] = {"name": str(name).rpartition("/")[2]} if name is not None else {}
    buffer = getattr(raw, "getbuffer", None)
    if buffer is not None:
        known["bytes"] = len(buffer())
    return known


def files(options: Any) -> dict[str, list[Any]]:
    """Return the descriptions of the files of a multipart request, by field name."""
    sent = options.files if isinstance(getattr(options, "files", None), (list, tuple, dict)) else ()
    found: dict[str, list[Any]] = {}
    for name, raw in sent.items() if isinstance(sent, dict) else sent:
        found.setdefault(str(name).partition("[")[0], []).append(weight(raw))
    return found
