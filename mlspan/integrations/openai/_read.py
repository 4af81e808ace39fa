"""What every endpoint of OpenAI's client shares: who is called, how a body's fields are read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ..._shape import get, is_a, items
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
        host, port = server(self.client.base_url)
        return {"provider": provider(self.client, host), "server_address": host, "server_port": port}


@lru_cache(maxsize=256)
def server(url: Any) -> tuple[str, int | None]:
    return url.host, url.port or {"https": 443, "http": 80, "wss": 443, "ws": 80}.get(url.scheme)


def provider(client: Any, host: str) -> str:
    if "Azure" in type(client).__name__:
        return "azure.ai.openai"
    return provider_at(host) or "openai"


Fields = Mapping[str, tuple[str, Any]]  # of a body -> field of the record, and its type
_NO_FIELD: Final = ("", ())  # nothing is an instance of no type


def fill(record: Record, body: Body, fields: Fields) -> None:
    """Take over what *body* says under the names of *fields*, where it has the type that the record wants."""
    for name, value in body.items():
        field, kind = fields.get(name, _NO_FIELD)
        if kind is float and is_a(value, (int, float)):
            setattr(record, field, float(value))
        elif kind is not float and is_a(value, kind):
            setattr(record, field, value)


def count(call: ModelCall, usage: Any, *tables: Mapping[str, str]) -> None:
    """Token counts: the first table's are in *usage* itself, those of the others in the object named by their "in"."""
    if usage is None:
        return
    for table in tables:
        holder = get(usage, table["in"]) if "in" in table else usage
        if holder is None:
            continue
        for name, field in table.items():
            if name != "in" and is_a(tokens := get(holder, name), int):
                setattr(call, field, tokens)


def tools(body: Body, *names: str) -> list[ToolDefinition] | None:
    return [tool(raw) for name in names for raw in items(body, name)] or None


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
