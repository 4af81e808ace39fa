"""Connections of MCP: the transport, the server's address and the session of each."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any, Final

from ..._bounded import BoundedDict
from ..._guard import warn_once
from ..._shape import get_nested
from ...hooks.patching import Patch, Undo, observe_method, resolve_target
from ...hooks.requests import read_host_and_port
from ...tracing.operations import semconv as sc
from ...tracing.operations.generators import GeneratorSteps, wrap_async_generator

_PIPE: Final = "pipe"
_STREAMS_LOSS: Final = "the transport in the spans of its clients"
_FindTransport = Callable[[tuple[Any, ...], dict[str, Any]], object]
_OWNERS: Final = ("mcp.shared.session:BaseSession.__init__", "mcp.shared.jsonrpc_dispatcher:JSONRPCDispatcher.__init__")
# What has been opened and has no session yet, by the id of the stream that a session writes to, with that stream, as
# not all versions' streams can be referenced weakly: _PIPE, or what returns the transport of HTTP.
_unclaimed: Final[BoundedDict[int, tuple[Any, Any]]] = BoundedDict(1000)
# By session or dispatcher.
_transports: Final[weakref.WeakKeyDictionary[Any, Any]] = weakref.WeakKeyDictionary()
_versions: Final[weakref.WeakKeyDictionary[Any, str]] = weakref.WeakKeyDictionary()


def describe_connection(owner: object) -> dict[str, object]:
    """Return what is known of the connection of *owner*, a client's session or dispatcher, by attribute."""
    try:
        transport, version = _transports.get(owner), _versions.get(owner)
    except TypeError:  # as in _note
        return {}
    known: dict[str, Any] = {sc.MCP_PROTOCOL_VERSION: version}
    if transport is _PIPE:
        known[sc.NETWORK_TRANSPORT] = _PIPE
    elif transport is not None:
        opened = transport()
        if (url := get_nested(opened, "url", str)) is not None:
            known |= _describe_url(url)
            known[sc.MCP_SESSION_ID] = get_nested(opened, "session_id", str)
    return {name: value for name, value in known.items() if value is not None}


def describe_back_channel(*owners: object) -> dict[str, object]:
    """Return what is known of a connection over which a server asks its client; the server is the one that calls."""
    known = {name: value for owner in owners for name, value in describe_connection(owner).items()}
    return {name: value for name, value in known.items() if name not in {sc.SERVER_ADDRESS, sc.SERVER_PORT}}


def note_version(owner: object, version: object) -> None:
    """Note the version of the protocol that *owner*'s connection has agreed upon."""
    if isinstance(version, str):
        _note(_versions, owner, version)


def _note(known: weakref.WeakKeyDictionary[object, Any], owner: object, value: object) -> None:
    """Note *value* of *owner*. What takes no weak reference, or compares by its fields, has nothing noted."""
    with suppress(TypeError):
        known[owner] = value


def _describe_url(url: str) -> dict[str, object]:
    """Return the attributes of a server behind an HTTP *url*."""
    host, port = read_host_and_port(url)
    place = {sc.SERVER_ADDRESS: host, sc.SERVER_PORT: port}
    return {sc.NETWORK_TRANSPORT: "tcp", sc.NETWORK_PROTOCOL_NAME: "http", **place}


def describe_http_request(request: object) -> dict[str, object]:
    """Return the attributes of the connection behind *request*, Starlette's; none for another transport."""
    scope = getattr(request, "scope", None)
    if not isinstance(scope, Mapping):
        return {}
    headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope.get("headers") or ()}
    client = scope.get("client") or (None, None)
    return {
        sc.NETWORK_TRANSPORT: "tcp",
        sc.NETWORK_PROTOCOL_NAME: "http",
        sc.NETWORK_PROTOCOL_VERSION: scope.get("http_version"),
        sc.MCP_SESSION_ID: headers.get("mcp-session-id"),
        sc.MCP_PROTOCOL_VERSION: headers.get("mcp-protocol-version"),
        sc.CLIENT_ADDRESS: client[0],
        sc.CLIENT_PORT: client[1],
    }


def list_patches() -> Iterator[Patch]:
    """Yield the patches that note which transport a client's connection has."""
    loss = "transport, server and session in the spans of clients"
    writer = functools.partial(observe_method, callback=_note_http)
    yield Patch("mcp.client.streamable_http:StreamableHTTPTransport.post_writer", writer, loss)
    pipes = functools.partial(_observe_streams, find_transport=lambda *_: _PIPE)
    yield Patch("mcp.client.stdio:stdio_client", pipes, _STREAMS_LOSS)
    events = functools.partial(_observe_streams, find_transport=_find_event_source)
    yield Patch("mcp.client.sse:sse_client", events, _STREAMS_LOSS, is_optional=True)
    for target in _OWNERS:
        yield Patch(target, functools.partial(observe_method, callback=_note_owner), loss, is_optional=True)


def _note_http(args: tuple[object, ...], kwargs: Mapping[str, object], _: object) -> None:
    """Note ``post_writer(self, client, write_stream_reader, read_stream_writer, write_stream, ...)``, as it is made."""
    stream = kwargs.get("write_stream", args[4] if len(args) > 4 else None)
    _unclaimed[id(stream)] = stream, weakref.ref(args[0])


def _note_owner(args: tuple[object, ...], kwargs: Mapping[str, object], _: object) -> None:
    """Note the transport of ``__init__(self, read_stream, write_stream, ...)``, a session's or a dispatcher's."""
    stream = kwargs.get("write_stream", args[2] if len(args) > 2 else None)
    known, transport = _unclaimed.pop(id(stream), (None, None))
    if stream is not None and known is stream:
        _note(_transports, args[0], transport)


def _find_event_source(args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    """Return the transport of ``sse_client(url, ...)``."""
    opened = SimpleNamespace(url=kwargs.get("url", args[0] if args else None))
    return lambda: opened


def _observe_streams(target: str, find_transport: _FindTransport) -> Undo:
    """Note the streams that a transport's function yields, also where a program has imported it by its name before.

    The function is contextlib's, which keeps the generator function in its closure: that one is replaced. A function
    that is made in another way is left alone, and one line says what is lost.
    """
    function: object = getattr(*resolve_target(target))
    while function is not None:
        own = getattr(function, "__wrapped__", None)
        for cell in getattr(function, "__closure__", None) or ():
            if inspect.isasyncgenfunction(own) and cell.cell_contents is own:
                return _replace_contents(cell, own, find_transport)
        function = own
    warn_once("mlspan: %s is not made by contextlib, so %s is not told", target, _STREAMS_LOSS)
    return lambda: None


def _replace_contents(cell: Any, own: Any, find_transport: _FindTransport) -> Undo:
    observed = functools.wraps(own)(wrap_async_generator(own, find_transport, _StreamSteps))
    cell.cell_contents = observed

    def undo() -> None:
        if cell.cell_contents is observed:
            cell.cell_contents = own

    return undo


class _StreamSteps(GeneratorSteps):
    """The steps of a transport's generator, which yields the two streams of a session."""

    def __init__(self, own: Any, transport: object) -> None:
        super().__init__(own)
        self._transport = transport

    def _enter_step(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _note_yielded(self, streams: Any) -> object:
        with suppress(TypeError, IndexError):
            _unclaimed[id(streams[1])] = streams[1], self._transport
        return streams
