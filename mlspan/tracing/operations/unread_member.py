"""Answers that hold a member which the caller has yet to read: an event stream, or a body like a file.

Some clients, such as botocore, answer with a dict of plain values in which one value is still on its way. The dict
stays the client's own; that one member is replaced by a proxy, and the operation ends when the caller has read it.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Final

from ..._guard import guard
from .iterators import close_generator, start_generator
from .operation import Operation
from .raw_response import ResponseObserver
from .response_proxy import ResponseProxy, StreamEnd, finish_after_read, finish_in_finalizer


class UnreadMemberCall:
    """An operation whose answer, a dict, has one *member* that the caller has yet to read.

    The dict is observed first, then what is read of the member: the events, or the values of the body's JSON.
    """

    __slots__ = ("_member", "_operation")

    def __init__(self, operation: Operation, member: str) -> None:
        self._operation, self._member = operation, member

    def __enter__(self) -> UnreadMemberCall:
        self._operation.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._operation.__exit__(kind, error, trace)

    def record_result(self, value: Any, *, awaited: bool = False) -> object:
        """Record the answer *value*, put a proxy in the place of its member, and return it."""
        member = value.get(self._member) if isinstance(value, dict) else None
        self._operation.observe(value)
        if (proxy_class := _find_member_class(member)) is not None:
            self._operation.hand_over()
            value[self._member] = proxy_class(member, self._operation)
        elif isinstance(member, Iterator):  # of a stub, as is a list
            value[self._member] = self._operation.record_result(member, awaited=awaited)
        elif isinstance(member, list):
            for event in member:
                self._operation.observe(event)
        return value


def _find_member_class(member: object) -> type[_MemberProxy] | None:
    """Return the class of proxy for a member by what it can do; None for a value that needs none."""
    cls = type(member)
    if not hasattr(member, "close"):
        return None
    if hasattr(cls, "read"):
        return UnreadBody
    if hasattr(cls, "__aiter__"):
        return AsyncEvents
    return Events if hasattr(cls, "__iter__") and not hasattr(cls, "__next__") else None


class _MemberProxy(ResponseProxy):
    """A proxy of a member: it ends the operation when it is closed or dropped."""

    __slots__ = ()
    _mlspan_observer: ResponseObserver

    def __del__(self) -> None:
        try:
            observer = object.__getattribute__(self, "_mlspan_observer")
        except AttributeError:  # __init__ has failed before setting it
            return
        finish_in_finalizer(observer, stream_end=self._mlspan_find_end("abandoned"))

    def _mlspan_finish(self, error: BaseException | None = None) -> None:
        self._mlspan_observer.finish(error, stream_end=None if error else self._mlspan_find_end("closed"))

    def _mlspan_find_end(self, left: StreamEnd) -> StreamEnd | None:
        """Return how a member has ended that is *left* now: None if it was read to its end."""
        return left

    def _mlspan_read_each(self, own: Iterator[Any], note: Callable[[Any], object]) -> Iterator[Any]:
        """Yield what *own* yields, once *note* has it; its end and its errors end the operation."""
        while True:
            try:
                one = next(own)
            except BaseException as error:
                finish_after_read(self._mlspan_observer, error)
                if isinstance(error, StopIteration):
                    return
                raise
            note(one)
            yield one


class Events(_MemberProxy):
    """A proxy of an event stream. Each iteration goes on where the one before it has stopped."""

    __slots__ = ()

    def __iter__(self) -> Iterator[object]:
        return self._mlspan_read_each(iter(self._mlspan_own), self._mlspan_observer.observe)


class AsyncEvents(_MemberProxy):
    """A proxy of an asynchronous event stream."""

    __slots__ = ()

    def __aiter__(self) -> _AsyncReader:
        return _AsyncReader(aiter(self._mlspan_own), self._mlspan_observer, self)


class _AsyncReader:
    """One iteration of an event stream. It keeps the stream's proxy, whose end would otherwise come before its own."""

    __slots__ = ("_observer", "_own", "_stream")

    def __init__(self, own: Any, observer: ResponseObserver, stream: AsyncEvents) -> None:
        self._own, self._observer, self._stream = own, observer, stream

    def __aiter__(self) -> _AsyncReader:
        return self

    async def __anext__(self) -> object:
        try:
            event = await anext(self._own)
        except BaseException as error:
            finish_after_read(self._observer, error)
            raise
        self._observer.observe(event)
        return event

    def __getattr__(self, name: str) -> object:  # aclose, asend and athrow of the client's own
        return getattr(self._own, name)


_ITERATING: Final = frozenset({"iter_chunks", "stream", "iter_any", "iter_chunked"})
_UNTIL_THE_END: Final = frozenset({"readlines", "readall"})
_ONE_PIECE: Final = frozenset({"readline", "read1", "readany", "readchunk", "readexactly", "readuntil"})
_body_guard: Final = guard("reading a body")


class UnreadBody(_MemberProxy):
    """A proxy of a body that is read like a file, whole or piece by piece, and decoded once, at the end.

    What its ``with`` block gives, which may be the connection below it, is read into the same record.
    """

    __slots__ = ("_mlspan_above",)

    def __init__(self, own: object, observer: ResponseObserver, above: UnreadBody | None = None) -> None:
        super().__init__(own, observer)
        object.__setattr__(self, "_mlspan_above", above)  # kept alive: its end would come before the reading

    def read(self, *args: Any, **options: Any) -> Any:
        """Read as the client's body does: so many bytes, or all of them."""
        amount = next(iter([*args, *options.values()]), None)
        if amount == 0:  # nothing read is no end
            return self._mlspan_own.read(*args, **options)
        whole = not isinstance(amount, int) or amount < 0
        return self._mlspan_note(lambda: self._mlspan_own.read(*args, **options), self._mlspan_add, whole=whole)

    def readinto(self, buffer: Any) -> Any:
        if not len(buffer):
            return self._mlspan_own.readinto(buffer)

        def add_read_bytes(count: Any) -> None:
            if count is not None:  # else nothing has arrived yet
                self._mlspan_add(bytes(memoryview(buffer).cast("B")[:count]))

        return self._mlspan_note(lambda: self._mlspan_own.readinto(buffer), add_read_bytes, whole=False)

    def __getattr__(self, name: str) -> object:
        if name.startswith("_mlspan_"):  # one that was made past __init__ has none
            raise AttributeError(name)
        value = getattr(self._mlspan_own, name)
        if name in _UNTIL_THE_END or name in _ONE_PIECE:
            return lambda *args, **options: self._mlspan_call(name, value, args, options)
        if name == "iter_lines":
            return lambda *args, **options: self._mlspan_read_pieces(value(*args, **options), b"\n")
        if name in _ITERATING:
            return lambda *args, **options: self._mlspan_read_pieces(value(*args, **options))
        return self.__next__ if name == "next" else self.__anext__ if name == "anext" else value

    def __iter__(self) -> Any:
        return self._mlspan_read_pieces(iter(self._mlspan_own))

    def __aiter__(self) -> Any:
        return self._mlspan_read_pieces(aiter(self._mlspan_own))

    def __next__(self) -> Any:
        return self._mlspan_note(lambda: next(self._mlspan_own), self._mlspan_add, whole=False)

    async def __anext__(self) -> Any:
        return await self._mlspan_note(lambda: anext(self._mlspan_own), self._mlspan_add, whole=False)

    def __enter__(self) -> Any:
        return self._mlspan_wrap(self._mlspan_own.__enter__())

    def __exit__(self, *exit: Any) -> Any:
        self._mlspan_finish(exit[1])
        return self._mlspan_own.__exit__(*exit)

    async def __aenter__(self) -> Any:
        return self._mlspan_wrap(await self._mlspan_own.__aenter__())

    async def __aexit__(self, *exit: Any) -> Any:
        self._mlspan_finish(exit[1])
        return await self._mlspan_own.__aexit__(*exit)

    def __del__(self) -> None:
        if getattr(self, "_mlspan_above", None) is None:  # else it is the other proxy that is left
            super().__del__()

    def _mlspan_find_end(self, left: StreamEnd) -> StreamEnd | None:
        return None if self._mlspan_observer.get_body_buffer().is_complete_json() else left

    def _mlspan_wrap(self, entered: Any) -> UnreadBody:
        return self if entered is self._mlspan_own else UnreadBody(entered, self._mlspan_observer, self)

    def _mlspan_add(self, piece: Any, end: bytes = b"") -> None:
        """Add what was read to the record's body; nothing read is the end."""
        with _body_guard:
            if isinstance(piece, tuple):  # a piece, and whether it ends a chunk
                piece = piece[0]
            if isinstance(piece, list):  # lines
                piece = (piece[0][:0] if piece else b"").join(piece)
            if piece:
                self._mlspan_observer.get_body_buffer().add_piece(piece, end)
            elif isinstance(piece, (bytes, bytearray, memoryview, str)):
                self._mlspan_observer.finish()

    def _mlspan_call(self, name: str, read: Callable[..., object], args: Any, options: Any) -> Any:
        """Call one of the further methods that read: to the end, or a piece, as its argument says."""
        limit = next(iter([*args, *options.values()]), None)
        if limit == 0 and name in _ONE_PIECE:  # nothing read is no end
            return read(*args, **options)
        whole = name in _UNTIL_THE_END and not (isinstance(limit, int) and limit > 0)
        return self._mlspan_note(lambda: read(*args, **options), self._mlspan_add, whole=whole)

    def _mlspan_note(self, read: Callable[[], Any], add: Callable[[Any], None], *, whole: bool) -> Any:
        """Return what *read* returns, or the awaitable of it, once it is added. If *whole*, it is all there is."""

        async def note_awaited(value: Any) -> object:
            try:
                found = await value
            except BaseException as error:
                finish_after_read(self._mlspan_observer, error)
                raise
            return self._mlspan_take(found, add, whole=whole)

        try:
            value = read()
        except BaseException as error:
            finish_after_read(self._mlspan_observer, error)
            raise
        return note_awaited(value) if inspect.isawaitable(value) else self._mlspan_take(value, add, whole=whole)

    def _mlspan_take(self, found: object, add: Callable[[object], None], *, whole: bool) -> object:
        with _body_guard:
            add(found)
        if whole:
            self._mlspan_observer.finish()
        return found

    def _mlspan_read_pieces(self, pieces: Any, end: bytes = b"") -> Any:
        if hasattr(pieces, "__anext__"):
            return self._mlspan_aread(pieces, end)
        return self._mlspan_read_each(pieces, partial(self._mlspan_add, end=end))

    async def _mlspan_aread(self, pieces: Any, end: bytes) -> AsyncIterator[object]:
        step = start_generator(pieces)
        while True:
            try:
                piece = await step
            except BaseException as error:
                finish_after_read(self._mlspan_observer, error)
                if isinstance(error, StopAsyncIteration):
                    return
                raise
            self._mlspan_add(piece, end)
            try:
                yield piece
            except BaseException:  # the reader has left
                await close_generator(pieces)
                raise
            step = anext(pieces)
