"""The contracts of calls whose answer is whole: one span each, and a caller who notices nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import ClassVar

import pytest
from opentelemetry import trace

from ... import tracing
from .base import Contract, catch, run_in_thread, run_with_end


class _AnyCallContract(Contract):
    """The tests of a call, sync or async.

    Attributes:
        fails: the exception of :meth:`call_and_fail`.
    """

    fails: ClassVar[type[BaseException]]

    def call(self) -> object:
        """Make the call and return its answer."""
        raise NotImplementedError

    def call_and_fail(self) -> object:
        """Make a call that the server refuses."""
        raise NotImplementedError

    def read_answer(self, answer: object) -> object:
        """Return what is compared between a traced answer and a bare one; leave out what differs from call to call."""
        return answer

    def test_a_call_is_one_span(self) -> None:
        """A call ends one span, with its tokens and its content, and leaves no current span."""
        self.call()
        span = self.check_span()
        assert not trace.get_current_span().get_span_context().is_valid
        everything = str(dict(span.attributes or {}))
        assert [text for text in self.texts if text not in everything] == []

    def test_a_span_without_content(self) -> None:
        """With ``capture_content=False`` the span has its tokens, and nothing of what was said."""
        tracing.configure(capture_content=False)
        self.call()
        everything = str(dict(self.check_span().attributes or {}))
        assert [text for text in self.texts if text in everything] == []

    def test_the_caller_gets_the_same_answer(self) -> None:
        """Type and values of the answer are those of an untraced call."""
        bare = self.run_bare(self.call)
        traced = self.call()
        assert type(traced) is type(bare)
        assert isinstance(traced, type(bare))
        assert self.read_answer(traced) == self.read_answer(bare)

    def test_the_caller_gets_the_same_exception(self) -> None:
        """A call that fails raises what it raises without tracing, and its span says so."""
        bare = self.run_bare(lambda: catch(self.call_and_fail, self.fails))
        traced = catch(self.call_and_fail, self.fails)
        assert type(traced) is type(bare)
        assert str(traced) == str(bare)
        assert traced.__cause__.__class__ is bare.__cause__.__class__
        self.check_span(error=type(bare))

    def test_a_failure_without_content(self) -> None:
        """With ``capture_content=False`` the span has the type of the error, and not what it says."""
        tracing.configure(capture_content=False)
        error = catch(self.call_and_fail, self.fails)
        span = self.check_span(error=type(error))
        told = [span.status.description, *((event.attributes or {}).get("exception.message") for event in span.events)]
        assert [text for text in told if str(error) and str(error) in str(text)] == []

    def test_a_call_inside_a_span(self) -> None:
        """The span is a child of the caller's span, which is current again afterwards."""
        with tracing.span("outer"):
            around = trace.get_current_span()
            self.call()
            assert trace.get_current_span() is around
        child, parent = self.spans.named(self.span), self.spans.named("outer")
        assert [span.parent and span.parent.span_id for span in child] == [
            span.context and span.context.span_id for span in parent
        ]

    def test_a_call_in_a_thread(self) -> None:
        """A call in another thread is a span too."""
        run_in_thread(self.call)
        self.check_span()

    def test_what_is_patched_looks_like_itself(self) -> None:
        """Name, documentation, signature and kind of each patched function are those of the original."""
        bare = self.run_bare(self._describe_targets)
        assert self._describe_targets() == bare

    def _describe_targets(self) -> list[tuple[object, ...]]:
        described: list[tuple[object, ...]] = []
        for owner, name in self.list_targets():
            function = getattr(owner, name)
            described.append(
                (
                    function.__name__,
                    function.__doc__,
                    inspect.signature(function),
                    inspect.iscoroutinefunction(function),
                )
            )
        return described

    def test_disable_brings_the_originals_back(self) -> None:
        """``disable=True`` leaves no patch behind, and no span of the next call."""
        self.check_disabled(self.call)

    def test_traces_off(self) -> None:
        """``log_traces=False`` records nothing, and the call is made all the same."""
        self.autolog(log_traces=False)
        self.call()
        assert self.spans.tree() == ""
        self.autolog(log_traces=True)


class CallContract(_AnyCallContract):
    """The contract of a synchronous call. A raw response, such as OpenAI's ``with_raw_response``, is a call as well."""

    def make_call(self) -> object:
        """Make the call and return its answer, read to its end."""
        raise NotImplementedError

    def make_failing_call(self) -> object:
        """Make a call that the server refuses with :attr:`fails`."""
        raise NotImplementedError

    def call(self) -> object:
        return self.make_call()

    def call_and_fail(self) -> object:
        return self.make_failing_call()


class AsyncCallContract(_AnyCallContract):
    """The contract of an asynchronous call. Each call has an event loop of its own; no plugin of pytest is needed."""

    async def make_call(self) -> object:
        """Make the call and return its answer, read to its end."""
        raise NotImplementedError

    async def make_failing_call(self) -> object:
        """Make a call that the server refuses with :attr:`fails`."""
        raise NotImplementedError

    async def make_hanging_call(self) -> object:
        """Make a call that is not answered within half a second."""
        raise NotImplementedError

    async def close_client(self) -> None:
        """Close what the calls have opened, in the event loop in which they were made."""

    def call(self) -> object:
        return self._run(self.make_call)

    def call_and_fail(self) -> object:
        return self._run(self.make_failing_call)

    def _run(self, make: Callable[[], Coroutine[object, object, object]]) -> object:
        return asyncio.run(run_with_end(make(), self.close_client))

    def test_a_call_that_times_out(self) -> None:
        """``asyncio.wait_for`` gives up on a call without an answer: one span, cancelled."""

        async def give_up() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(self.make_hanging_call(), 0.1)

        self._run(give_up)
        self.check_span(error=asyncio.CancelledError)

    def test_calls_at_once(self) -> None:
        """Calls of several tasks are a span each, without a parent among them."""

        async def call_thrice() -> None:
            await asyncio.gather(*(self.make_call() for _ in range(3)))

        self._run(call_thrice)
        assert [span.name for span in self.spans.all] == [self.span] * 3
        assert [span.parent for span in self.spans.all] == [None] * 3
