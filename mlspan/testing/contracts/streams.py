"""The contract of synchronous streams: whichever way one ends, its span ends once and says how."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import tee
from typing import Any, ClassVar

import pytest
from opentelemetry import trace

from ... import tracing
from .base import CallersError, Contract, catch, run_in_thread


class AnyStreamContract(Contract):
    """The description of a stream, sync or async.

    Attributes:
        first_text: a text of the first chunk, which is in the span of a stream that is left after one chunk.
        stream_type: the class that the caller's stream is an instance of.
        cut_off: the exception of a stream whose connection breaks.
        has_with: whether the stream can be the subject of a ``with`` statement.
        is_generator: whether the stream is a generator: its call begins with the first read, and Python closes it when
            it is dropped, so that nobody can tell the one from the other.
        has_http_response: whether ``stream.response`` is the HTTP response below the stream, which may be closed too.
    """

    first_text: ClassVar[str]
    stream_type: ClassVar[type]
    cut_off: ClassVar[type[BaseException]]
    has_with: ClassVar[bool] = True
    has_http_response: ClassVar[bool] = False
    is_generator: ClassVar[bool] = False

    def read_chunk(self, chunk: object) -> object:
        """Return what is compared between a traced chunk and a bare one; leave out what differs from call to call."""
        return chunk

    def check_left(self, *, end: str | None = None, error: type[BaseException] | None = None) -> None:
        """Check the span of a stream that has ended after one chunk: the chunk is in it. See :meth:`check_span`."""
        span = self.check_span(end=end, error=error)
        assert self.first_text in str(dict(span.attributes or {}))

    def check_dropped(self) -> None:
        """Check the span of a stream that was dropped after one chunk."""
        self.check_left(end="closed" if self.is_generator else "abandoned")

    def check_never_read(self, end: str) -> None:
        """Check the span of a stream that was left without a read, if that has made a call."""
        if self.is_generator:
            assert self.spans.all == []
        else:
            self.check_span(end=end)

    def check_type(self, stream: object) -> None:
        """Check that the stream is an instance of the client's own class."""
        assert isinstance(stream, self.stream_type)

    def require_with(self) -> None:
        """Skip the test if the stream cannot be the subject of a ``with`` statement."""
        if not self.has_with:
            pytest.skip("these streams have no with-block")


def read_one_and_break(stream: Any) -> None:
    for _ in stream:
        break


def drop_unread(stream: object) -> None:
    """Leave the stream without a single read."""


def keep_in_a_cycle(stream: Any) -> None:
    next(iter(stream))
    loop: list[object] = [stream]
    loop.append(loop)


def raise_in_the_loop(stream: Any) -> None:
    with suppress(CallersError):
        for _ in stream:
            raise CallersError


def close_early(stream: Any) -> None:
    next(iter(stream))
    stream.close()


def close_unread(stream: Any) -> None:
    stream.close()


def close_twice(stream: Any) -> None:
    close_early(stream)
    stream.close()


def close_in_a_thread(stream: Any) -> None:
    next(iter(stream))
    run_in_thread(stream.close)


def leave_the_block(stream: Any) -> None:
    with stream:
        next(iter(stream))


def leave_a_generator(stream: Any) -> None:
    def read() -> Iterator[object]:
        with stream:
            yield from stream

    next(read())


def close_the_response(stream: Any) -> None:
    next(iter(stream))
    stream.response.close()


class StreamContract(AnyStreamContract):
    """The contract of a synchronous stream."""

    def open_stream(self) -> Any:
        """Return a new stream of at least two chunks."""
        raise NotImplementedError

    def open_cut_off_stream(self) -> Any:
        """Return a new stream whose connection breaks, or which the server ends with an error, after one chunk."""
        raise NotImplementedError

    def test_read_to_the_end(self) -> None:
        """All tokens are there, nothing says that it was left early, and more reads and closes change nothing."""
        stream: Any = self.open_stream()
        self.check_type(stream)
        assert len(list(stream)) >= 2
        self.check_span()
        assert list(stream) == []
        stream.close()
        del stream
        gc.collect()
        self.check_span()

    def test_the_caller_gets_the_same_chunks(self) -> None:
        """Types and values of the chunks are those of an untraced stream."""

        def read() -> list[tuple[type, Any]]:
            return [(type(chunk), self.read_chunk(chunk)) for chunk in self.open_stream()]

        assert self.run_bare(read) == read()

    def test_a_stream_that_is_read_twice_by_tee(self) -> None:
        """``itertools.tee`` reads the stream once for both of its iterators, and the span has all of it."""

        def read() -> list[list[object]]:
            return [[self.read_chunk(chunk) for chunk in one] for one in tee(self.open_stream())]

        bare = self.run_bare(read)
        assert read() == bare
        self.check_span()

    def test_the_class_is_the_clients(self) -> None:
        """``isinstance``, ``__class__`` and the attributes of the stream are those of an untraced one."""
        bare = self.run_bare(self.open_stream)
        stream = self.open_stream()
        assert stream.__class__ is bare.__class__
        assert dir(stream) == dir(bare)
        bare.close()
        stream.close()

    @pytest.mark.parametrize("leave", [read_one_and_break, keep_in_a_cycle, raise_in_the_loop])
    def test_dropped(self, leave: Callable[[object], None]) -> None:
        """A stream that nobody closes ends its span when it is collected, as abandoned: no error."""
        leave(self.open_stream())
        gc.collect()
        self.check_dropped()

    @pytest.mark.parametrize("leave", [close_early, close_twice, close_in_a_thread])
    def test_closed(self, leave: Callable[[object], None]) -> None:
        """A stream that is closed early ends its span at once."""
        stream = self.open_stream()
        leave(stream)
        self.check_left(end="closed")

    @pytest.mark.parametrize(("leave", "end"), [(drop_unread, "abandoned"), (close_unread, "closed")])
    def test_never_read(self, leave: Callable[[object], None], end: str) -> None:
        """A stream that nobody reads ends its span too."""
        leave(self.open_stream())
        gc.collect()
        self.check_never_read(end)

    @pytest.mark.parametrize("leave", [leave_the_block, leave_a_generator])
    def test_a_block_left_early(self, leave: Callable[[object], None]) -> None:
        """Leaving the ``with`` block closes the stream, also in a generator that is collected."""
        self.require_with()
        leave(self.open_stream())
        gc.collect()
        self.check_left(end="closed")

    def test_a_block_read_to_the_end(self) -> None:
        """A stream that was read to its end inside its block was not left early."""
        self.require_with()
        with self.open_stream() as stream:
            list(stream)
        self.check_span()

    def test_the_http_response_closed(self) -> None:
        """Closing the response below the stream ends the span, while the stream still lives."""
        if not self.has_http_response:
            pytest.skip("these streams show no HTTP response")
        stream = self.open_stream()
        close_the_response(stream)
        self.check_left(end="closed")

    def test_an_exception_in_the_block(self) -> None:
        """An exception of the caller's leaves the block as the object that it is, and the span says which."""
        self.require_with()
        error = CallersError("mine")

        def read() -> None:
            with self.open_stream() as stream:
                for _ in stream:
                    raise error

        assert catch(read, CallersError) is error
        self.check_left(error=CallersError)

    def test_cut_off(self) -> None:
        """A stream that breaks raises what it raises without tracing, and its span is an error."""

        def read() -> object:
            return list(self.open_cut_off_stream())

        bare = self.run_bare(lambda: catch(read, self.cut_off))
        traced = catch(read, self.cut_off)
        assert type(traced) is type(bare)
        assert str(traced) == str(bare)
        self.check_left(error=type(bare))

    def test_read_in_another_thread(self) -> None:
        """A stream may be handed to another thread."""
        stream = self.open_stream()
        run_in_thread(lambda: list(stream))
        self.check_span()

    def test_longer_than_the_span_around_it(self) -> None:
        """A stream that is read after its parent has ended stays its child, and meanwhile it is nobody's parent."""
        with tracing.span("outer"):
            around = trace.get_current_span()
            stream = self.open_stream()
            assert trace.get_current_span() is around
            next(iter(stream))
            assert trace.get_current_span() is around
        list(stream)
        (child,), (parent,) = self.spans.named(self.span), self.spans.named("outer")
        assert child.parent is not None
        assert parent.context is not None
        assert child.parent.span_id == parent.context.span_id

    def test_shutdown_ends_what_is_open(self) -> None:
        """A stream that is open at the end of the process loses neither its span nor, for its reader, a chunk."""
        stream = self.open_stream()
        next(iter(stream))
        tracing.shutdown(5)
        self.check_left(end="abandoned")
        assert list(stream)
        self.check_left(end="abandoned")

    def test_disable_brings_the_originals_back(self) -> None:
        """``disable=True`` leaves no patch behind, and no span of the next stream."""
        self.check_disabled(lambda: list(self.open_stream()))
