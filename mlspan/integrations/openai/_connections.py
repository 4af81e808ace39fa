"""Websocket connections of the client: what is sent, received and lost on them is told to a session object."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit

from ..._guard import guard
from ..._shape import get_field
from ...hooks.patching import Patch, Undo, apply_patches, install_when_imported, observe_method, replace_function


class Session(Protocol):
    """The record of one connection, which is told what happens there."""

    def note_sent_event(self, event: object) -> None:
        """Note an event before it is sent."""

    def read_received_event(self, event: object) -> None:
        """Read an event of the server."""

    def close_session(self, error: BaseException | None) -> None:
        """Finish what is open, as the connection was closed, or lost with *error*."""


_SESSION: Final = "_mlspan"  # the attribute of a connection that holds its session
SessionStarter = Callable[[Any], Session | None]  # returns the session of a new connection, None if it is not recorded


def observe_connections(
    modules: Iterable[str], classes: Iterable[str], start: SessionStarter, loss: str, *, is_optional: bool = False
) -> Undo:
    """Tell the session of each connection what happens on it, from its constructor to its close.

    Importing the modules of connections takes longer than importing the rest of the client, so the patches wait until
    the application imports them.

    Args:
        modules: the modules that have the connections.
        classes: the names of the connections' classes in each of them.
        start: starts the session of a connection.
        loss: what is not recorded where the places are missing.
        is_optional: the modules are there in versions that have no connections.
    """

    def start_session(args: tuple[object, ...], _: object, __: object) -> None:
        session = start(args[0])
        if session is not None:
            setattr(args[0], _SESSION, session)

    installers: dict[str, Callable[[str], Undo]] = {
        "__init__": functools.partial(observe_method, callback=start_session),
        "send": functools.partial(replace_function, make=_report_sent_events),
        "recv": functools.partial(replace_function, make=_report_lost_connection),
        "parse_event": functools.partial(observe_method, callback=_report_received_event),
        "close": functools.partial(observe_method, callback=_report_close),
    }

    def install(module: str) -> Undo:
        return apply_patches(
            Patch(f"{module}:{cls}.{name}", installer, loss, is_optional=is_optional)
            for cls in classes
            for name, installer in installers.items()
        )

    with ExitStack() as undo:
        for module in modules:
            undo.callback(install_when_imported(module, functools.partial(install, module), loss=loss))
        return undo.pop_all().close


def read_connection_url(connection: object) -> SplitResult:
    """Return the URL that a connection was opened with, without its scheme."""
    request = get_field(getattr(connection, "_connection", None), "request")
    headers: Any = get_field(request, "headers") or {}
    return urlsplit(f"//{headers.get('Host') or ''}{get_field(request, 'path') or ''}")


def _report_received_event(args: tuple[object, ...], _: object, event: object) -> None:
    if (session := _find_session(args[0])) is not None:
        session.read_received_event(event)


def _report_close(args: tuple[object, ...], _: object, __: object) -> None:
    if (session := _find_session(args[0])) is not None:
        session.close_session(None)


def _find_session(connection: object) -> Session | None:
    return getattr(connection, _SESSION, None)


def _report_sent_events(own: Any) -> Any:
    """Return ``send``, which reports an event before it sends it: the answer may be read on another thread."""

    @functools.wraps(own)
    def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (session := _find_session(self)) is not None:
            with guard("looking at an event that is sent"):
                session.note_sent_event(get_field(kwargs, "event") or (args[0] if args else None))
        return own(self, *args, **kwargs)

    return send


def _report_lost_connection(own: Any) -> object:
    """Return ``recv``, which reports that the connection was lost."""
    if inspect.iscoroutinefunction(own):

        @functools.wraps(own)
        async def recv(self: object, *args: object, **kwargs: object) -> object:
            try:
                return await own(self, *args, **kwargs)
            except Exception as error:
                _report_loss(self, error)
                raise
    else:

        @functools.wraps(own)
        def recv(self: Any, *args: Any, **kwargs: Any) -> object:
            try:
                return own(self, *args, **kwargs)
            except Exception as error:
                _report_loss(self, error)
                raise

    return recv


_LOST: Final = "ConnectionClosedError"  # of websockets; a read that was cancelled or has timed out can go on


def _report_loss(connection: object, error: Exception) -> None:
    if type(error).__name__ == _LOST and (session := _find_session(connection)) is not None:
        with guard("looking at a lost connection"):
            session.close_session(error)
