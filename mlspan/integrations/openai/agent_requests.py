"""Requests of the Agents SDK's models: model, server and tools, which its spans do not tell at their start."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from ..._guard import guard
from ..._shape import get_field, get_nested
from ...hooks.patching import Patch, replace_function
from ...hooks.requests import find_base_url, read_host_and_port
from ...tracing.operations.call_context import reset_variable
from ...tracing.operations.iterators import start_generator
from ._read import find_client_provider


class AgentRequest(NamedTuple):
    """A request that is being made: the fields of its record, and the descriptions of its tools by their names."""

    fields: Mapping[str, Any]
    tools: Mapping[str, str]


_request: Final[ContextVar[AgentRequest | None]] = ContextVar("mlspan_agent_request", default=None)
get_agent_request: Final = _request.get  # returns the request that the caller is inside of, or None


def _read_model_request(model: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> AgentRequest | None:
    """Read a request from the arguments of ``get_response``; None if they cannot be read."""
    with guard("reading a request"):
        host, port = read_host_and_port(find_base_url(model))
        fields: dict[str, object] = {"server_address": host, "server_port": port} if host else {}
        if (name := get_nested(model, "model", str)) is not None:
            fields["model"] = name
        fields["provider"] = find_client_provider(get_field(model, "_client"), host or "")
        offered = kwargs.get("tools", args[3] if len(args) > 3 else None)  # after instructions, input and settings
        tools: dict[str, str] = {}
        for tool in offered if isinstance(offered, list) else ():
            called, said = get_nested(tool, "name", str), get_nested(tool, "description", str)
            if called and said:
                tools[called] = said
        return AgentRequest(fields, tools)
    return None


def _note_request(original: Callable[..., Any]) -> Callable[..., object]:
    """Wrap ``get_response`` of a model: the request is known inside."""

    @functools.wraps(original)
    async def get_response(model: Any, *args: Any, **kwargs: Any) -> object:
        request = _read_model_request(model, args, kwargs)
        token = _request.set(request)
        try:
            return await original(model, *args, **kwargs)
        finally:
            reset_variable(token, request, None)

    return get_response


def _note_streamed_request(original: Callable[..., Any]) -> Callable[..., object]:
    """Wrap ``stream_response`` of a model: the request is known at the first read, when the SDK's span starts."""

    @functools.wraps(original)
    async def stream_response(model: Any, *args: Any, **kwargs: Any) -> AsyncIterator[object]:
        events = original(model, *args, **kwargs)
        request = _read_model_request(model, args, kwargs)
        token = _request.set(request)
        try:
            event = await start_generator(events, _END)
        finally:
            reset_variable(token, request, None)
        while event is not _END:
            try:
                yield event
            except BaseException:  # the reader has left; what a read has raised needs no close, and may not take one
                await events.aclose()
                raise
            event = await anext(events, _END)

    return stream_response


_END: Final = object()  # of a stream
_MODELS: Final = (
    "agents.models.openai_responses:OpenAIResponsesModel",
    "agents.models.openai_chatcompletions:OpenAIChatCompletionsModel",
)
REQUEST_PATCHES: Final = [
    Patch(
        f"{model}.{method}",
        functools.partial(replace_function, make=make),
        "model and server of agents' calls at their start, and what their tools are for",
        is_optional=True,
    )
    for model in _MODELS
    for method, make in (("get_response", _note_request), ("stream_response", _note_streamed_request))
]
