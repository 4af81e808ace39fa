"""Cohere's Python client, its second version of the API: chats, streams, embeddings and rerankings.

A client keeps the methods that its class had when it was made, so what is traced is the layer below: the raw clients,
which ``with_raw_response`` gives to the caller as well. A raw stream is a context manager, around an answer that holds
the events. Their module is no part of the documented interface; without it nothing is traced, which is said.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Final

from .._shape import (
    get_count,
    get_field,
    get_fields,
    get_integer,
    get_list,
    get_nested,
    get_text,
    get_told_fields,
    leave_out,
    list_items,
    list_texts,
)
from ..hooks.call import Call
from ..hooks.hook import Hook, trace_methods
from ..hooks.openai_format import FINISH_REASONS, dump_model
from ..hooks.patching import Patch, Undo, apply_patches, replace_function
from ..hooks.requests import read_server_fields
from ..tracing.operations import semconv as sc
from ..tracing.operations.records import Chat, Embeddings, Observe, ProviderRequest
from .openai.methods import make_chat, make_embeddings

__all__ = ["HOOK", "autolog"]

PRIVATE_NAMES: Final[dict[str, str]] = {"_client_wrapper": "the address of the server"}

_REASONS: Final = {**FINISH_REASONS, "TOOL_CALL": "tool_calls", "ERROR": "error"}


def _find_url(call: Call) -> object:
    wrapper: object = getattr(call.args[0], "_client_wrapper", None)
    return wrapper.get_base_url() if hasattr(wrapper, "get_base_url") else None


def _begin_chat(call: Call, *, stream: bool = False) -> tuple[Chat, Observe[Chat]]:
    asked = leave_out(call.kwargs, ...)  # the outer client passes every argument, and this for one that is not given
    for theirs, ours in _RENAMED.items():
        if theirs in asked:
            asked[ours] = asked.pop(theirs)
    if "stop" in asked:
        asked["stop"] = list_texts(asked["stop"])
    if stream:
        asked["stream"] = True
    chat = make_chat("cohere", _find_url(call), asked, capture_content=call.capture_content)
    return chat, _observe_event if stream else _observe_answer


_RENAMED: Final = {"p": "top_p", "k": "top_k", "stop_sequences": "stop"}  # Cohere's name of an argument -> OpenAI's


def _observe_answer(chat: Chat, got: object) -> None:
    """Read a whole answer, which its raw response holds."""
    answer = get_told_fields(get_field(got, "data"))
    choice, message = chat.draft.get_choice(), get_told_fields(answer.get("message"))
    chat.response_id = get_text(answer, "id")
    if plan := get_text(message, "tool_plan"):
        choice.add_text(plan, "reasoning")
    for part in list_items(message.get("content")):
        _add_content(chat, part)
    if "tool_calls" in message:
        for slot, call in enumerate(list_items(message["tool_calls"])):
            _add_call_delta(chat, slot, call)
    if found := list_items(message.get("citations")):
        choice.add_annotations([dump_model(one) for one in found])
    _read_end(chat, answer)


def _observe_event(chat: Chat, got: object) -> None:
    """Read an event of a stream."""
    if chat.response_id and _append_text(chat, got):
        return
    event = get_fields(got)
    if (kind := get_text(event, "type")) is not None:
        chat.response_id = chat.response_id or get_text(event, "id")
        _read_event(chat, kind, event)


def _append_text(chat: Chat, got: Any) -> bool:
    """Append an event that holds text and nothing else, as nearly all do; return False for any other."""
    try:
        if got.type != "content-delta":
            return False
        piece = got.delta.message.content
        if type(piece.text) is not str or piece.thinking:
            return False
    except AttributeError:  # of another shape
        return False
    chat.draft.get_choice().add_text(piece.text)
    return True


def _read_event(chat: Chat, kind: str, event: Mapping[str, Any]) -> None:
    delta = event.get("delta")
    if kind in {"content-start", "content-delta"}:  # as nearly all are
        _add_content(chat, get_fields(get_fields(delta).get("message")).get("content"))
        return
    slot = get_integer(event, "index") or 0
    if kind in {"tool-call-start", "tool-call-delta"}:
        _add_call_delta(chat, slot, get_nested(delta, "message.tool_calls", object))
    elif kind == "tool-plan-delta" and (plan := get_nested(delta, "message.tool_plan", str)):
        chat.draft.get_choice().add_text(plan, "reasoning")
    elif kind == "citation-start" and (cited := get_nested(delta, "message.citations", object)) is not None:
        chat.draft.get_choice().add_annotations([dump_model(cited)])
    elif kind == "message-end":
        _read_end(chat, get_told_fields(delta))
        if error := get_nested(delta, "error", str):
            chat.failure = (sc.ERROR_OTHER, error)


def _add_content(chat: Chat, part: object) -> None:
    told = get_fields(part)
    if thought := get_text(told, "thinking"):
        chat.draft.get_choice().add_text(thought, "reasoning")
    if text := get_text(told, "text"):
        chat.draft.get_choice().add_text(text)


def _add_call_delta(chat: Chat, slot: int, call: object) -> None:
    name, arguments = (get_nested(call, f"function.{field}", str) for field in ("name", "arguments"))
    chat.draft.get_choice().add_tool_call(slot, get_nested(call, "id", str), name, arguments)


def _read_end(chat: Chat, told: Mapping[str, Any]) -> None:
    """Read why an answer has ended, and its tokens: those that are billed, where both are told."""
    if isinstance(reason := told.get("finish_reason"), str):
        word = str.__str__(reason)  # a (str, Enum) has a name of its own
        chat.draft.get_choice().finish_reason = _REASONS.get(word, word.lower())
    _read_usage(chat, told.get("usage"))


def _read_usage(record: Chat | Embeddings, usage: object) -> None:
    told = get_told_fields(usage)
    billed, counted = get_fields(told.get("billed_units")), get_fields(told.get("tokens"))
    for field in ("input_tokens", "output_tokens"):
        if (tokens := get_count(billed, field)) is None:
            tokens = get_count(counted, field)
        if tokens is not None and hasattr(record, field):
            setattr(record, field, tokens)
    if (cached := get_count(told, "cached_tokens")) is not None and isinstance(record, Chat):
        record.cache_read_tokens = cached


def _begin_embeddings(call: Call) -> tuple[Embeddings, Observe[Embeddings]]:
    given = (list_items(call.kwargs.get(name)) for name in ("texts", "inputs", "images"))  # "..." where left out
    asked = next(filter(None, given), None)
    body = {"model": call.kwargs.get("model"), "input": asked}
    record = make_embeddings("cohere", _find_url(call), body, capture_content=call.capture_content)
    return record, _observe_embeddings


def _observe_embeddings(record: Embeddings, got: object) -> None:
    answer = get_field(got, "data")
    for vectors in get_fields(get_field(answer, "embeddings")).values():
        if isinstance(vectors, list) and vectors and isinstance(vectors[0], list):
            record.dimensions = len(vectors[0])
            break
    _read_usage(record, get_field(answer, "meta"))


def _begin_rerank(call: Call) -> tuple[ProviderRequest, Observe[ProviderRequest]]:
    record = ProviderRequest(
        type="reranker",
        name="rerank",
        provider="cohere",
        model=get_nested(call.kwargs, "model", str),
        **read_server_fields(_find_url(call)),
    )
    if call.capture_content:
        record.input = {name: call.kwargs.get(name) for name in ("query", "documents")}
    return record, _observe_rerank


def _observe_rerank(record: ProviderRequest, got: object) -> None:
    record.output = [dump_model(one) for one in get_list(got, "data.results")]


class _RawStream:
    """A raw answer whose events are recorded as they are read; all else is that of the client's own."""

    def __init__(self, own: Any, data: object) -> None:
        self._own, self.data = own, data

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)

    @property  # type: ignore[misc]  # isinstance(answer, HttpResponse) stays true
    def __class__(self) -> type:
        return self._own.__class__  # type: ignore[no-any-return]


class _StreamBlock:
    """The block around a raw stream: the operation begins with the request, and ends with its events or with the block.

    It is no generator, which an event loop would be told of and close.
    """

    def __init__(self, hook: Hook, own: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._own, self._args, self._kwargs = own, args, kwargs
        begin = functools.partial(_begin_chat, stream=True)
        self._start = functools.partial(hook.start_operation, begin, args, kwargs, function=own)
        self._stack, self._astack = ExitStack(), AsyncExitStack()

    def __enter__(self) -> _RawStream:
        with ExitStack() as stack:
            with self._start() as operation:
                answer = stack.enter_context(self._own(*self._args, **self._kwargs))
                events = operation.record_result(answer.data)
            if hasattr(events, "close"):
                stack.callback(events.close)
            self._stack = stack.pop_all()
        return _RawStream(answer, events)

    def __exit__(self, *exit: Any) -> bool | None:
        return self._stack.__exit__(*exit)

    async def __aenter__(self) -> _RawStream:
        async with AsyncExitStack() as stack:
            with self._start() as operation:
                answer = await stack.enter_async_context(self._own(*self._args, **self._kwargs))
                events = operation.record_result(answer.data, awaited=True)
            if hasattr(events, "aclose"):
                stack.push_async_callback(events.aclose)
            self._astack = stack.pop_all()
        return _RawStream(answer, events)

    async def __aexit__(self, *exit: Any) -> bool | None:
        return await self._astack.__aexit__(*exit)


def _trace_stream(own: Any, *, hook: Hook) -> object:
    @functools.wraps(own)
    def chat_stream(*args: object, **kwargs: object) -> _StreamBlock:
        return _StreamBlock(hook, own, args, kwargs)

    return chat_stream


_WHOLE: Final[Mapping[str, Callable[[Call], Any]]] = {
    "chat": _begin_chat,
    "embed": _begin_embeddings,
    "rerank": _begin_rerank,
}
_CLIENTS: Final = ("cohere.v2.raw_client:RawV2Client", "cohere.v2.raw_client:AsyncRawV2Client")


def _install(hook: Hook) -> Undo:
    whole = trace_methods({f"{cls}.{name}": begin for cls in _CLIENTS for name, begin in _WHOLE.items()})(hook)
    streams = apply_patches(
        Patch(
            f"{cls}.chat_stream",
            functools.partial(replace_function, make=functools.partial(_trace_stream, hook=hook)),
            "streamed chats",
        )
        for cls in _CLIENTS
    )

    def undo() -> None:
        streams()
        whole()

    return undo


HOOK = Hook("cohere>=7,<8", "cohere.v2.raw_client", _install)
autolog = HOOK.autolog
