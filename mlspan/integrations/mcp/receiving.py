"""Requests that are handled: by a server, and by a client that its server asks for something."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import get_current
from opentelemetry.trace import SpanKind

from ..._guard import guard
from ..._shape import get_field, get_nested
from ...hooks.hook import Hook
from ...hooks.patching import Patch, replace_function, replace_method
from ...tracing.operations import semconv as sc
from ...tracing.operations.call_context import use_context
from .connections import describe_back_channel, describe_http_request
from .requests import (
    Request,
    TracedRequest,
    current_request,
    hold_back_notification,
    hold_back_own_span,
    read_guard,
    trace_request,
)

_context_guard: Final = guard("reading the context of a request of MCP")
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_dispatcher": "the transport in a client's span of what its server asks, in version 2",
}
_being_handled: Final = "_mlspan_handled"  # our mark on a responder of version 1: what records its answer


def list_patches(hook: Hook) -> Iterator[Patch]:
    """Yield the patches of the functions that handle requests, which differ by version."""
    loss = "requests that are handled"
    yield from (
        Patch(target, functools.partial(replace_method, make=functools.partial(trace, hook)), loss, is_optional=True)
        for target, trace in (
            ("mcp.server._otel:OpenTelemetryMiddleware.__call__", trace_middleware),
            ("mcp.client.session:ClientSession._on_request", _trace_client),
            ("mcp.client.session:ClientSession.dispatch_input_request", _trace_input),
            ("mcp.server.lowlevel.server:Server._handle_request", _trace_responder),
            ("mcp.client.session:ClientSession._received_request", _trace_responder),
        )
    )
    respond = functools.partial(replace_method, make=_wrap_respond)
    yield Patch("mcp.shared.session:RequestResponder.respond", respond, loss, is_optional=True)
    own = functools.partial(replace_function, make=hold_back_own_span)
    beside = "nothing, but the SDK's own span stands beside ours"
    yield Patch("mcp.server._otel:otel_span", own, beside, is_optional=True)


def _use_sender(meta: object) -> AbstractContextManager[None]:
    """Make the sender's span current, if ``_meta`` names one that is not current already."""
    with _context_guard:
        known = meta if isinstance(meta, Mapping) else {}
        carrier = {name: value for name, value in known.items() if isinstance(value, str)}
        if not carrier:
            return nullcontext()
        around = get_current()
        context = propagate.extract(carrier, context=around)
        sender, here = (trace.get_current_span(one).get_span_context() for one in (context, around))
        if sender.is_valid and (sender.trace_id, sender.span_id) != (here.trace_id, here.span_id):
            return use_context(context)
    return nullcontext()


async def _record_handling(
    hook: Hook, request: Request, meta: object, handle: Callable[[], Awaitable[object]]
) -> object:
    """Return what *handle* returns, recorded as the result of *request*, below the span that *meta* names."""
    with _use_sender(meta), trace_request(hook, request) as traced:
        result = await handle()
        traced.observe(result)
        return result


def trace_middleware(hook: Hook, fn: Any, enabled: list[bool]) -> object:
    """Wrap the middleware that a version 2 server calls for each request and notification."""

    @functools.wraps(fn)
    async def handle_traced(self: Any, ctx: Any, call_next: Any) -> object:
        if not enabled:
            return await fn(self, ctx, call_next)
        if ctx.request_id is None:
            with hold_back_notification(hook, ctx.method, _use_sender(ctx.meta)):
                return await fn(self, ctx, call_next)
        request = Request(ctx.method, ctx.params, SpanKind.SERVER)
        with read_guard:
            request.note_id(ctx.request_id)
            request.note({**describe_http_request(ctx.request), sc.MCP_PROTOCOL_VERSION: ctx.protocol_version})
        return await _record_handling(hook, request, ctx.meta, lambda: fn(self, ctx, call_next))

    return handle_traced


def _trace_client(hook: Hook, fn: Any, enabled: list[bool]) -> object:
    """Wrap ``_on_request(self, dctx, method, params)``, by which a client of version 2 answers its server."""

    @functools.wraps(fn)
    async def handle_traced(self: Any, dctx: Any, method: str, params: Any) -> object:
        if not enabled:
            return await fn(self, dctx, method, params)
        request = Request(method, params, SpanKind.SERVER)
        request.note_id(getattr(dctx, "request_id", None))
        with _context_guard:
            request.note(_describe_session(self))
        meta = request.params.get("_meta")
        return await _record_handling(hook, request, meta, lambda: fn(self, dctx, method, params))

    return handle_traced


def _trace_input(hook: Hook, fn: Any, enabled: list[bool]) -> object:
    """Wrap ``dispatch_input_request(self, ctx, request)``, by which a client of version 2 calls what answers *request*.

    A server asks by a request of its own, which is recorded as that, or, from the protocol of 2026 on, in the result of
    a call, which the client then sends again with the answers.
    """

    @functools.wraps(fn)
    async def answer_traced(self: Any, ctx: Any, request: Any) -> object:
        asked = _read_input(self, request) if enabled else None
        around = current_request.get()
        if asked is None or (around is not None and around.kind is asked.kind and around.method == asked.method):
            return await fn(self, ctx, request)
        return await _record_handling(hook, asked, None, lambda: fn(self, ctx, request))

    return answer_traced


def _read_input(session: Any, request: Any) -> Request | None:
    """Return what *request* asks the client of *session*; None if it cannot be read."""
    with read_guard:
        said = request.model_dump(by_alias=True, mode="json", exclude_none=True)
        asked = Request(said.get("method"), said.get("params"), SpanKind.SERVER)
        asked.note(_describe_session(session))
        return asked
    return None


def _describe_session(session: Any) -> dict[str, object]:
    """Return what is known of the connection of a client's *session* of version 2."""
    known = describe_back_channel(session, get_field(session, "_dispatcher"))
    return {**known, sc.MCP_PROTOCOL_VERSION: get_nested(session, "protocol_version", str)}


def _trace_responder(hook: Hook, fn: Any, enabled: list[bool]) -> object:
    """Wrap a function of version 1 that is given a responder, and answers by that."""

    @functools.wraps(fn)
    async def handle_traced(self: Any, responder: Any, *args: Any, **kwargs: Any) -> object:
        request = _read_responder(responder) if enabled else None
        if request is None:
            return await fn(self, responder, *args, **kwargs)
        session = args[1] if len(args) > 1 else None  # a server's, which knows what its client has asked for
        version = get_nested(session, "client_params.protocolVersion", str)
        if version is not None:
            request.attributes.setdefault(sc.MCP_PROTOCOL_VERSION, version)
        with _context_guard:
            request.note(describe_back_channel(self))
        meta = get_field(responder, "request_meta")
        with _use_sender(getattr(meta, "model_extra", None)), trace_request(hook, request) as traced:
            setattr(responder, _being_handled, traced)
            return await fn(self, responder, *args, **kwargs)

    return handle_traced


def _read_responder(responder: Any) -> Request | None:
    """Return the request that *responder* is to answer; None if it cannot be read."""
    with read_guard:
        asked = getattr(responder.request, "root", responder.request)
        said = asked.model_dump(by_alias=True, mode="json", exclude_none=True, warnings=False)
        http = get_field(responder.message_metadata, "request_context")
        read = Request(said.get("method"), said.get("params"), SpanKind.SERVER)
        read.note_id(responder.request_id)
        read.note(describe_http_request(http))
        return read
    return None


def _wrap_respond(fn: Any, enabled: list[bool]) -> object:
    """Wrap ``respond`` of version 1, which is given the answer."""

    @functools.wraps(fn)
    async def respond(self: Any, response: Any) -> object:
        traced = vars(self).get(_being_handled)
        if enabled and isinstance(traced, TracedRequest):
            traced.observe(response)
        return await fn(self, response)

    return respond
