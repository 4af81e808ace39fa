"""Streams that LlamaIndex's calls return, wrapped so that the end of the stream ends the call's operation.

A model's stream makes its request with the first read, after the call has returned, and the dispatcher does not report
its end reliably. So the methods that return such streams are patched to return a wrapper, and the call's span is
current during every read. The streams of query and chat engines are fields of an answer, and are replaced there.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, Final

from ..._guard import guard
from ..._shape import get_field
from ...hooks.patching import Undo
from ...hooks.subclasses import trace_subclasses
from ...tracing.operations.message_drafts import TextPieces
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Chat, NamedRecord
from ...tracing.operations.response_proxy import finish_in_finalizer
from ...tracing.operations.stream import find_stream_class
from .calls import STREAM_METHODS, STRUCTURED_METHODS, find_call_type
from .workflows import dispatched_calls

_returned_streams: Final[
    dict[int, Operation]
] = {}  # id() of a stream -> its operation, from the call's end until it is wrapped
_unread_chat_answers: Final[
    dict[int, Operation]
] = {}  # id() of a chat engine's answer -> its operation, while LlamaIndex reads it


def hand_over_stream(run: str, owner: object, result: Any) -> bool:
    """Leave the end of a call's operation to the stream that it returns; return False if it returns none.

    Args:
        run: the id of the call.
        owner: the object that it was called on.
        result: the result, which may be a stream or hold one.
    """
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        operation = dispatched_calls.release_operation(run)
        if operation is None:
            return True
        if isinstance(operation.record, Chat) or find_call_type(owner, "") == "llm":
            _returned_streams[id(result)] = operation
        else:  # a user's function, whose generator is not wrapped: its operation ends when the generator is freed
            weakref.finalize(result, finish_in_finalizer, operation).atexit = False
        return True
    name = type(result).__name__
    if name in {"StreamingResponse", "AsyncStreamingResponse"} and result.response_gen is not None:
        _wrap_inner_stream(run, result, "response_gen")
        return True
    return name == "StreamingAgentChatResponse" and _hand_over_chat_answer(run, result)


def _wrap_stream(value: object, operation: Operation) -> object:
    """Return a wrapper of a stream that ends the operation, and has its span current during every read."""
    proxy_class = find_stream_class(type(value), is_async=hasattr(value, "__anext__"))
    return proxy_class(value, operation, operation.context)


def _wrap_inner_stream(run: str, result: object, name: str) -> None:
    """Replace the stream in field *name* of *result* by a wrapper, which ends the operation of the call."""
    if (operation := dispatched_calls.release_operation(run)) is not None:
        if isinstance(operation.record, NamedRecord):
            operation.record.output = TextPieces()
        setattr(result, name, _wrap_stream(getattr(result, name), operation))


def _hand_over_chat_answer(run: str, result: Any) -> bool:
    """Leave the end of the operation to a chat engine's streaming answer; return False if it holds no stream.

    An answer that LlamaIndex writes to its memory is read by a thread or task of LlamaIndex, whose end is reported.
    """
    if result.is_writing_to_memory:
        if (operation := dispatched_calls.release_operation(run)) is not None:
            _unread_chat_answers[id(result)] = operation
            if result.is_done or result.exception is not None:  # the thread or task has ended already
                finish_chat_answer(result, result.exception)
        return True
    for name in ("chat_stream", "achat_stream"):
        if get_field(result, name) is not None:
            _wrap_inner_stream(run, result, name)
            return True
    return False


def finish_chat_answer(answer: object, error: BaseException | None = None) -> None:
    """Finish the operation of a chat engine's *answer*, which LlamaIndex has read to its end or until an *error*."""
    if _unread_chat_answers and (operation := _unread_chat_answers.pop(id(answer), None)) is not None:
        if isinstance(operation.record, NamedRecord) and operation.record.output is not None:
            operation.record.output = get_field(answer, "response") or operation.record.output
        operation.finish(error)


def trace_llm_streams(base: str) -> Undo:
    """Patch the methods of models that return streams, so that they return wrapped ones.

    Args:
        base: the base class of models, as ``module:Class``.
    """
    names = sorted(STREAM_METHODS | STRUCTURED_METHODS)
    return trace_subclasses(base, dict.fromkeys(names, _start_nothing), _wrap_stream_method)


def _start_nothing(*_: object) -> None:
    """Start nothing: the dispatcher's report of the call has started its operation."""


def _wrap_returned_stream(value: object) -> object:
    """Return *value*, wrapped if it is a stream of a call whose operation is still open."""
    if _returned_streams and (operation := _returned_streams.pop(id(value), None)) is not None:
        with guard("watching a stream"):
            return _wrap_stream(value, operation)
    return value


def _wrap_stream_method(fn: Any, *_: object) -> Callable[..., object]:
    """Return a method that calls *fn* and wraps the stream that it returns.

    It works on after the integration has been turned off, for calls that were open then. *fn* is bound to the object,
    as the dispatcher's decorator reads the object from the bound method.
    """
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def call_stream_method(self: object, *args: object, **kwargs: object) -> object:
            return _wrap_returned_stream(await fn.__get__(self, type(self))(*args, **kwargs))
    else:

        @functools.wraps(fn)
        def call_stream_method(self: Any, *args: object, **kwargs: object) -> object:
            return _wrap_returned_stream(fn.__get__(self, type(self))(*args, **kwargs))

    return call_stream_method
