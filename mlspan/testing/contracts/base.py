"""The base of all contracts: spans in memory for the length of a test, and checks of an ended span."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import ClassVar, TypeVar

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode

from ...tracing import runtime
from ...tracing.operations import semconv as sc
from ..collected import Spans
from ..memory import spans

WAIT = 30.0  # seconds, the most that anything is waited for
T = TypeVar("T")


class CallersError(Exception):
    """An exception that the caller raises while it handles a chunk."""


class Contract:
    """The promises of an integration, checked by the test methods of the subclasses.

    Attributes:
        span: the name of the span of one call.
        tokens: the input and output tokens of a call whose answer is read to its end; None if it reports none.
        texts: what the caller sends and what it gets, in words that only content can have.
        spans: the spans that the test has ended so far.
    """

    span: ClassVar[str]
    tokens: ClassVar[tuple[int, int] | None] = None
    texts: ClassVar[Sequence[str]] = ()
    spans: Spans

    def autolog(self, **options: object) -> None:
        """Call the integration's ``autolog`` with *options*, which may be none, ``disable`` or ``log_traces``."""
        raise NotImplementedError

    def list_targets(self) -> list[tuple[object, str]]:
        """Return what the integration patches for this call: pairs of a class or module and a name there.

        An integration that patches nothing, but registers a callback, returns none.
        """
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _trace_this_test(self) -> Iterator[None]:
        around, counter = otel_context.get_current(), _OpenSpans()
        with spans() as self.spans:
            remove_listener = runtime.add_listener(counter)
            self.autolog()
            try:
                yield
            finally:
                self.autolog(disable=True)
                gc.collect()
                remove_listener()
        assert counter.count == 0, "a span that has not ended"
        assert otel_context.get_current() == around, "a span is still the current one"

    def run_bare(self, function: Callable[[], T]) -> T:
        """Return what *function* returns while the integration is off, and check that there is no span of it."""
        self.autolog(disable=True)
        before = len(self.spans.all)
        try:
            return function()
        finally:
            assert len(self.spans.all) == before, "a span although the integration is off"
            self.autolog()

    def find_span(self) -> ReadableSpan:
        """Return the span of the call, which is the only one; override it where a call has spans below its own."""
        return self.spans.one()

    def check_span(self, *, end: str | None = None, error: type[BaseException] | None = None) -> ReadableSpan:
        """Check that there is exactly one ended span, and that it says how the call has ended. Return it.

        Args:
            end: ``closed`` or ``abandoned`` for a stream that was left early.
            error: the class of the exception that ended the call.
        """
        span = self.find_span()
        attributes = dict(span.attributes or {})
        assert span.name == self.span
        assert span.end_time is not None
        assert attributes.get(sc.STREAM_END) == end
        if error is None:
            assert span.status.status_code is StatusCode.UNSET
            assert sc.ERROR_TYPE not in attributes
        else:
            assert span.status.status_code is StatusCode.ERROR
            assert str(attributes.get(sc.ERROR_TYPE)).rpartition(".")[2] == error.__name__
        if end is None and error is None:
            found = (attributes.get(sc.USAGE_INPUT_TOKENS), attributes.get(sc.USAGE_OUTPUT_TOKENS))
            assert found == (self.tokens or (None, None))
        return span

    def check_disabled(self, function: Callable[[], object]) -> None:
        """Check that ``disable=True`` brings every original back, and that *function* then leaves no span."""
        self.autolog(disable=True)
        originals = [vars(owner).get(name) for owner, name in self.list_targets()]
        self.autolog()
        assert all(
            vars(owner).get(name) is not original
            for (owner, name), original in zip(self.list_targets(), originals, strict=True)
        )
        self.autolog(disable=True)
        assert [vars(owner).get(name) for owner, name in self.list_targets()] == originals
        function()
        assert self.spans.tree() == ""


class _OpenSpans(SpanProcessor):
    """Counts the spans that have started and not ended."""

    def __init__(self) -> None:
        self.count = 0

    def on_start(self, span: object, parent_context: object = None) -> None:  # noqa: ARG002  # the SDK's signature
        self.count += 1

    def on_end(self, span: object) -> None:  # noqa: ARG002  # likewise
        self.count -= 1


def run_in_thread(function: Callable[[], T]) -> T:
    """Return what *function* returns in a thread of its own, or raise what it raises there."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001  # it is raised again below
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(WAIT)
    assert not thread.is_alive(), f"the call is not done after {WAIT} s"
    if errors:
        raise errors[0]
    return results[0]


async def run_with_end(
    scenario: Coroutine[object, object, T], close: Callable[[], Coroutine[object, object, None]]
) -> T:
    """Return what *scenario* returns within ``WAIT`` seconds, and await *close* in the same event loop."""
    try:
        return await asyncio.wait_for(scenario, WAIT)
    finally:
        await close()


def catch(function: Callable[[], object], kind: type[BaseException]) -> BaseException:
    """Return the exception of class *kind*, or a subclass, that *function* raises."""
    with pytest.raises(kind) as caught:
        function()
    return caught.value
