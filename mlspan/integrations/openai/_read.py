"""What every endpoint of OpenAI's client shares: who is called, how a body's fields are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from ..._shape import fields, is_a, items, whole
from ...tracing.messages import ToolDefinition
from ...tracing.records import ModelCall, Record
from .._parts import provider_at, tool

Body = Mapping[str, Any]


class Ask(NamedTuple):
    """One request, as an endpoint's ``begin`` sees it."""

    client: Any
    options: Any  # the client's FinalRequestOptions
    body: Body
    content: bool
    settings: Mapping[str, Any]  # autolog's own options of this framework

    def server(self) -> dict[str, Any]:
        """The fields of a record that say who is called."""
        client = self.client
        url = fields(client).get("_base_url") or client.base_url  # its base_url imports something whenever it is asked
        known = _servers.get(client)
        if known is None or known[0] is not url:
            host, port = server(url)
            said = {"provider": provider(client, host), "server_address": host, "server_port": port}
            known = _servers[client] = (url, said)
        return known[1]


_servers: Final[WeakKeyDictionary[Any, tuple[Any, dict[str, Any]]]] = WeakKeyDictionary()  # a URL is slow to compare


def server(url: Any) -> tuple[str, int | None]:
    return url.host, url.port or {"https": 443, "http": 80, "wss": 443, "ws": 80}.get(url.scheme)


def provider(client: Any, host: str) -> str:
    if "Azure" in type(client).__name__:
        return "azure.ai.openai"
    return provider_at(host) or "openai"


Fields = Mapping[str, tuple[str, Any]]  # of a body -> field of the record, and its type


def fill(record: Record, body: Body, wanted: Fields) -> None:
    """Take over what *body* says under the names that are *wanted*, where it has the type that the record wants."""
    for name, value in body.items():
        if name not in wanted:
            continue
        field, kind = wanted[name]
        if kind is float and is_a(value, (int, float)):
            setattr(record, field, float(value))
        elif kind is not float and is_a(value, kind):
            setattr(record, field, value)


def count(call: ModelCall, usage: Any, *tables: Mapping[str, str]) -> None:
    """Token counts: the first table's are in *usage* itself, those of the others in the object named by their "in"."""
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
    return [tool(raw) for name in names if name in body for raw in items(body, name)] or None


def weight(raw: Any) -> Any:
    """A file that is sent or comes back, by its name and size: ``{"name", "bytes"}`` as far as they are known."""
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
    """What a multipart request carries besides its fields, by field name."""
    sent = options.files if isinstance(getattr(options, "files", None), (list, tuple, dict)) else ()
    found: dict[str, list[Any]] = {}
    for name, raw in sent.items() if isinstance(sent, dict) else sent:
        found.setdefault(str(name).partition("[")[0], []).append(weight(raw))
    return found
