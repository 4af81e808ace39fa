"""Requests that are sent: a client's, and those that a server sends to its client."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from ..._guard import guard
from ..._shape import get_field, get_nested
from ...hooks.hook import Hook
from ...hooks.patching import Patch, replace_function, replace_method
from ...tracing.operations import semconv as sc
from .connections import describe_connection, note_version
from .requests import Request, dump_result, hold_back_own_span, read_guard, trace_request

_describe_guard: Final = guard("describing a connection of MCP")
_VERSION_HEADER: Final = "mcp-protocol-version"
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_request_id": "the ids of the requests that version 1 sends",
}


def list_patches(hook: Hook) -> Iterator[Patch]:
    """Yield the patches of the one function that sends requests: another one in each major version."""
    loss = "requests that are sent"
    first = functools.partial(replace_method, make=functools.partial(_trace_session, hook))
    yield Patch("mcp.shared.session:BaseSession.send_request", first, loss, is_optional=True)
    later = functools.partial(replace_method, make=functools.partial(_trace_dispatcher, hook))
    yield Patch("mcp.shared.jsonrpc_dispatcher:JSONRPCDispatcher.send_raw_request", later, loss, is_optional=True)
    yield Patch("mcp.shared.direct_dispatcher:DirectDispatcher.send_raw_request", later, loss, is_optional=True)
    own = functools.partial(replace_function, make=hold_back_own_span)
    beside = "nothing, but the SDK's own span stands beside ours"
    yield Patch("mcp.shared.jsonrpc_dispatcher:otel_span", own, beside, is_optional=True)


def _trace_dispatcher(hook: Hook, fn: Any, enabled: list[bool]) -> object:
    """Wrap ``send_raw_request`` of version 2, which itself puts the current context into ``_meta``."""

    @functools.wraps(fn)
    async def send_traced(self: Any, method: str, params: Any = None, opts: Any = None, **kwargs: Any) -> object:
        if not enabled:
            return await fn(self, method, params, opts, **kwargs)
        request = Request(method, params, SpanKind.CLIENT)
        with read_guard:
            request.note({sc.MCP_PROTOCOL_VERSION: get_nested(opts, "headers." + _VERSION_HEADER, str)})
        with trace_request(hook, request) as traced, _describing(request, self):
            result = await fn(self, method, params, opts, **kwargs)
            traced.observe(result)
            return result

    return send_traced


def _trace_session(hook: Hook, fn: Any, enabled: list[bool]) -> object:
    """Wrap ``send_request`` of version 1, and put the current context into ``_meta``."""

    @functools.wraps(fn)
    async def send_traced(self: Any, request: Any, *args: Any, **kwargs: Any) -> object:
        if not enabled:
            return await fn(self, request, *args, **kwargs)
        said = _dump_request(request)
        asked = said or _name_request(request)
        sent = Request(asked.get("method"), asked.get("params"), SpanKind.CLIENT)
        with read_guard:
            sent.note_id(getattr(self, "_request_id", None))
        with trace_request(hook, sent) as traced, _describing(sent, self):
            result = await fn(self, _add_context(request, said), *args, **kwargs)
            traced.observe(result)
            if sent.method == "initialize":
                with guard("reading the answer to a handshake of MCP"):
                    note_version(self, (dump_result(result) or {}).get("protocolVersion"))
            return result

    return send_traced


@contextmanager
def _describing(request: Request, owner: object) -> Iterator[None]:
    """Tell *request* about the connection of *owner*, before the block and after it: a handshake makes more known."""
    with _describe_guard:
        request.note(describe_connection(owner))
    try:
        yield
    finally:
        with _describe_guard:
            request.note(describe_connection(owner))


def _dump_request(request: Any) -> dict[str, object]:
    """Return *request* as the JSON that version 1 sends; {} for what it cannot send, of which it tells the caller."""
    with suppress(Exception):
        return dict(request.model_dump(by_alias=True, mode="json", exclude_none=True, warnings=False))
    return {}


def _name_request(request: object) -> dict[str, object]:
    """Return the method of a request that cannot be sent, and what it is about."""
    with read_guard:
        asked = get_field(request, "root") or request
        return {"method": get_nested(asked, "method", str), "params": {"name": get_nested(asked, "params.name", str)}}
    return {}


def _add_context(request: Any, said: dict[str, Any]) -> Any:
    """Return a copy of *request*, whose JSON is *said*, with the current context in ``_meta``.

    A context of another trace that the caller has put there stays. One of this trace is that of a span around ours, as
    fastmcp 3 adds it. Return *request* itself if there is no context, or if it cannot be added.
    """
    with guard("adding the context to a request of MCP"):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        if not carrier or not said:
            return request
        params = said.get("params") or {}
        own = params.get("_meta") or {}
        meta = {**own, **carrier} if _is_of_this_trace(own) else {**carrier, **own}
        return type(request).model_validate({**said, "params": {**params, "_meta": meta}})
    return request


def _is_of_this_trace(meta: dict[str, object]) -> bool:
    """Return whether the context in ``_meta``, if there is one, is of the current trace."""
    texts = {name: value for name, value in meta.items() if isinstance(value, str)}
    there = trace.get_current_span(propagate.extract(texts, context=Context())).get_span_context()
    return there.is_valid and there.trace_id == trace.get_current_span().get_span_context().trace_id
