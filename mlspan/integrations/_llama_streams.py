"""Streams that LlamaIndex's calls return: each ends its span however it ends.

Of the models' the dispatcher tells no end that could be relied on, and they make their request with the first read,
outside of the call: the methods that return them are watched, and every read is inside of the call's span. The streams
of queries and chat engines lie in the answer, where they are put back watched.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, Final

from .._guard import guard
from .._shape import get
from ..tracing.live import Live
from ..tracing.messages import Pieces
from ..tracing.records import Chat, Named
from ..tracing.stream import AsyncStream, Stream, drop
from ._family import watch_family
from ._llama_kinds import STREAMS, STRUCTURED, kind_of
from ._llama_workflow import ledger
from ._patch import Undo

_unwatched: Final[dict[int, Live]] = {}  # id() of a stream -> its Live, from the call's end until the caller has it
_writing: Final[dict[int, Live]] = {}  # id() of a chat engine's answer -> its Live, while a thread or task reads it


def returned(run: str, owner: object, result: Any) -> bool:
    """Whether *result* is a stream, or holds one, that will end the operation."""
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        live = ledger.release(run)
        if live is None:
            return True
        if isinstance(live.record, Chat) or kind_of(owner, "") == "llm":
            _unwatched[id(result)] = live
        else:  # of a function of the user's: it is over when nobody holds it any more
            weakref.finalize(result, drop, live).atexit = False
        return True
    name = type(result).__name__
    if name in {"StreamingResponse", "AsyncStreamingResponse"} and result.response_gen is not None:
        _watch_inside(run, result, "response_gen")
        return True
    return name == "StreamingAgentChatResponse" and _chat(run, result)


def _watched(value: Any, live: Live) -> Any:
    return (AsyncStream if hasattr(value, "__anext__") else Stream)(value, live, live.context)


def _watch_inside(run: str, result: Any, name: str) -> None:
    """Put the stream at *name* of *result* back, watched."""
    if (live := ledger.release(run)) is not None:
        if isinstance(live.record, Named):
            live.record.output = Pieces()
        setattr(result, name, _watched(getattr(result, name), live))


def _chat(run: str, result: Any) -> bool:
    """A chat engine's answer is read by a thread or a task of LlamaIndex's, which writes it to the memory."""
    if result.is_writing_to_memory:
        if (live := ledger.release(run)) is not None:
            _writing[id(result)] = live
            if result.is_done or result.exception is not None:  # it was quicker
                written(result, result.exception)
        return True
    for name in ("chat_stream", "achat_stream"):
        if get(result, name) is not None:
            _watch_inside(run, result, name)
            return True
    return False


def written(answer: Any, error: BaseException | None = None) -> None:
    """A chat engine's *answer* has been read to its end."""
    if _writing and (live := _writing.pop(id(answer), None)) is not None:
        if isinstance(live.record, Named) and live.record.output is not None:
            live.record.output = get(answer, "response") or live.record.output
        live.finish(error)


def watch() -> Undo:
    """Watch the methods of models that return streams."""
    names = sorted(STREAMS | STRUCTURED)
    return watch_family("llama_index.core.base.llms.base:BaseLLM", dict.fromkeys(names, _nothing), _streaming)


def _nothing(*_: Any) -> None:
    """The dispatcher has opened the call."""


def _taken(value: Any) -> Any:
    """*value*, watched if it is a stream that the call has left open."""
    if _unwatched and (live := _unwatched.pop(id(value), None)) is not None:
        with guard("watching a stream"):
            return _watched(value, live)
    return value


def _streaming(fn: Any, *_: Any) -> Callable[..., Any]:
    """*fn*, bound as the dispatcher wants it, with its stream watched, even if we were turned off since."""
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def around(self: Any, *args: Any, **kwargs: Any) -> Any:
            return _taken(await fn.__get__(self, type(self))(*args, **kwargs))
    else:

        @functools.wraps(fn)
        def around(self: Any, *args: Any, **kwargs: Any) -> Any:
            return _taken(fn.__get__(self, type(self))(*args, **kwargs))

    return around
