"""``include_usage``: ask the server for the token counts of a stream, without the caller noticing.

The additional chunk is hidden from whoever reads the stream, and a server that refuses the question is asked again
without it.
"""

from __future__ import annotations

import functools
from functools import partial
from typing import Any, Final

from ..._bounded import BoundedDict
from ..._held_functions import see_through
from ..._shape import get_field, get_nested
from ...hooks.patching import Patch, Undo, apply_patches, replace_function
from ...tracing.operations.event_filter import hides_chunks
from ...tracing.operations.records import HIDE_CHUNK, Chat, Observe, sees_errors
from ._read import OpenAIRequest

_RAW_RESPONSE_HEADER: Final = "x-stainless-raw-response"  # the caller reads the body by itself
_refusing_servers: Final[BoundedDict[str, None]] = BoundedDict(1000)  # URLs of servers that do not know the option


class _BodyWithUsage(dict[str, Any]):
    """The body of a request to which we have added the question."""


def ask_for_usage(ask: OpenAIRequest) -> bool:
    """Ask for the usage of a stream, and return whether that was done.

    It is not where the caller has said what to ask for, reads the body by itself, or the server has refused before.
    """
    if not ask.autolog_options.get("include_usage"):
        return False
    if get_nested(ask.body, "stream_options.include_usage", bool) is not None:
        return False
    headers = ask.options.headers
    if isinstance(headers, dict) and any(str(name).lower() == _RAW_RESPONSE_HEADER for name in headers):
        return False
    if str(ask.client.base_url) in _refusing_servers:
        return False
    asked = {**(ask.body.get("stream_options") or {}), "include_usage": True}
    ask.options.json_data = _BodyWithUsage({**ask.options.json_data, "stream_options": asked})
    return True


def hide_usage(observe: Observe[Chat]) -> Observe[Chat]:
    """Return *observe*, which then also hides the chunk that holds nothing but the usage."""

    @hides_chunks
    @sees_errors
    def observe_and_hide(chat: Chat, got: object) -> object:
        observe(chat, got)
        return HIDE_CHUNK if get_field(got, "usage") is not None and not get_field(got, "choices") else None

    return observe_and_hide


def install_fallback() -> Undo:
    """Send a request again, without the question, where the server answers that it does not know the question."""
    loss = "streams of servers that do not know stream_options"
    made = {"openai:OpenAI.request": _make_request, "openai:AsyncOpenAI.request": _make_async_request}
    undo = apply_patches(
        [  # optional: without these places nothing is traced, which is said for the trace itself
            Patch(target, partial(replace_function, make=make), loss, is_optional=True) for target, make in made.items()
        ]
    )

    def undo_and_forget() -> None:
        undo()
        _refusing_servers.clear()

    return undo_and_forget


def _make_request(own: Any) -> Any:
    @functools.wraps(own)
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return own(self, *args, **kwargs)
        except Exception as error:
            if not _take_back_question(self, args, kwargs, error):
                raise
        return own(self, *args, **kwargs)

    return see_through(request)


def _make_async_request(own: Any) -> Any:
    @functools.wraps(own)
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await own(self, *args, **kwargs)
        except Exception as error:
            if not _take_back_question(self, args, kwargs, error):
                raise
        return await own(self, *args, **kwargs)

    return see_through(request)


def _take_back_question(client: Any, args: tuple[object, ...], kwargs: dict[str, object], error: Exception) -> bool:
    """Take our question out of a request that was refused because of it. Return whether to send it again."""
    options: Any = kwargs.get("options") or (args[1] if len(args) > 1 else None)
    body = getattr(options, "json_data", None)
    if type(body) is not _BodyWithUsage or getattr(error, "status_code", None) not in {400, 422}:
        return False
    said = f"{error} {getattr(error, 'body', '')}"
    if "stream_options" not in said and "include_usage" not in said:
        return False
    _refusing_servers[str(client.base_url)] = None
    before = {name: value for name, value in body["stream_options"].items() if name != "include_usage"}
    rest = {name: value for name, value in body.items() if name != "stream_options"}
    options.json_data = {**rest, "stream_options": before} if before else rest
    return True
