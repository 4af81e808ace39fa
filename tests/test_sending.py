"""Several writings at once: how many, in which order, what an error ends; and how a batch is shared among them."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from mlspan.tracing.export.mlflow import sink
from mlspan.tracing.export.mlflow.batches import LocatedSegment, split_portions, write_segments
from mlspan.tracing.export.mlflow.store import NO_LIMIT, StoreDenied
from mlspan.tracing.export.mlflow.traces import TranslatedTrace
from mlspan.tracing.export.otlp.codec import encode_each_span
from mlspan.tracing.export.sending.batch import BatchSender
from mlspan.tracing.export.sending.executor import BoundedExecutor
from mlspan.tracing.export.spool.queue import Spool
from mlspan.tracing.export.spool.rows import SpoolRow
from mlspan.tracing.export.types import BackendUnavailable, EncodedSpan, TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin


def test_as_many_at_once_as_there_are_hands() -> None:
    """An executor of three works on three of four items at a time; the calling thread is one of the three."""
    together, threads = threading.Barrier(3), set()

    def work(item: int) -> None:
        threads.add(threading.current_thread())
        if item < 3:
            together.wait(10)

    BoundedExecutor(3).run_each(work, range(4))
    assert len(threads) == 3
    assert threading.current_thread() in threads
    for thread in threads - {threading.current_thread()}:
        thread.join(10)
        assert not thread.is_alive()


def test_work_within_work() -> None:
    """Who is free helps from inside of work too, and nobody waits for hands that are all busy."""
    executor, seen = BoundedExecutor(2), set()
    lock = threading.Lock()

    def inner(item: tuple[int, int]) -> None:
        with lock:
            seen.add(item)

    def outer(item: int) -> None:
        executor.run_each(inner, [(item, number) for number in range(5)])

    executor.run_each(outer, range(4))
    assert len(seen) == 20


def test_an_error_ends_it() -> None:
    """Nothing is begun after an error; of several, that the backend is away is raised before any other."""
    together, begun = threading.Barrier(2), []

    def work(item: int) -> None:
        begun.append(item)
        together.wait(10)
        raise ValueError(item) if item == 0 else BackendUnavailable("gone")

    with pytest.raises(BackendUnavailable):
        BoundedExecutor(2).run_each(work, range(10))
    assert sorted(begun) == [0, 1]


def test_who_is_free_helps_others() -> None:
    """What one thread has asked for is worked on by hands that another one's work has left."""
    executor, begun, threads = BoundedExecutor(2), threading.Event(), set()

    def long(item: int) -> None:
        begun.set()
        time.sleep(0.3 * item)

    def short(_: int) -> None:
        threads.add(threading.current_thread())
        time.sleep(0.05)

    other = threading.Thread(target=executor.run_each, args=(long, [1, 0.5]))
    other.start()
    assert begun.wait(10)
    executor.run_each(short, range(20))
    other.join(10)
    assert len(threads) == 2


def test_what_comes_meanwhile_need_not_wait() -> None:
    """What is there to take while a batch is on its way goes beside it; the end is when nothing is on its way."""
    executor, waiting, both, sent = BoundedExecutor(2), deque(["first"]), threading.Barrier(2), []

    def send(batch: str) -> None:
        if batch == "first":
            waiting.append("second")
            executor.notify()
        both.wait(10)
        sent.append(batch)

    executor.run_available(lambda: waiting.popleft() if waiting else None, send, 2)
    assert sorted(sent) == ["first", "second"]


def test_a_failure_ends_the_taking() -> None:
    """It is raised once all is over; nothing is taken after it, and the next time it is as if nothing had been."""
    executor, waiting, sent = BoundedExecutor(3), deque(range(10)), []

    def send(batch: int) -> None:
        if batch == 0:
            raise BackendUnavailable("gone")
        time.sleep(0.2)
        sent.append(batch)

    def take() -> int | None:
        return waiting.popleft() if waiting else None

    with pytest.raises(BackendUnavailable):
        executor.run_available(take, send, 3)
    assert sent == sorted(sent)
    assert len(sent) <= 2
    executor.run_available(take, send, 3)
    assert sorted([*sent, 0]) == list(range(10))


def test_a_failure_to_take_is_the_askers() -> None:
    """A spool may be closed while a helping thread looks for more: whoever has asked for the job gets the error."""
    executor, tried, sent = BoundedExecutor(2), threading.Event(), []

    def take() -> str | None:
        if threading.current_thread() is threading.main_thread():
            return None if sent else "first"
        if not sent:
            return None
        tried.set()
        raise LookupError("closed")

    def send(batch: str) -> None:
        sent.append(batch)
        executor.notify()
        assert tried.wait(10)

    with pytest.raises(LookupError, match="closed"):
        executor.run_available(take, send, 2)
    assert sent == ["first"]
    executor.run_available(lambda: None, send, 2)


def test_parts_of_a_trace_go_one_after_the_other() -> None:
    """Storing one adds to what is stored of the trace, so a batch waits for another that has any of its traces."""
    spool = Spool(None)
    sent: list[list[int]] = []

    def send(segments: Sequence[TraceSegment]) -> list[Any]:
        assert sender.take_batch(spool) is None  # while the first part is under way
        sent.append([segment.number for segment in segments])
        return []

    sink: Any = SimpleNamespace(send=send, prepare=lambda: None, local=False)
    dead_letters: Any = None
    sender = BatchSender("mlflow", sink, dead_letters, Counter(), Counter())
    for number in (1, 2):
        segment = TraceSegment(TraceOrigin(), (span(7),), 1, whole=False, number=number)
        spool.add_spans(
            [SpoolRow(one, 1, number) for one in encode_each_span(segment.spans) if isinstance(one, EncodedSpan)],
            [segment],
        )
        if number == 1:
            first = sender.take_batch(spool)
    assert first is not None
    sender.send_batch(spool, first)
    assert sender.send_next_batch(spool)
    assert sent == [[1], [2]]
    spool.close()


def test_what_could_not_be_sent_is_taken_again() -> None:
    """Also where a later batch was taken, and stored, meanwhile."""
    spool, away = Spool(None), [BackendUnavailable("gone")]

    def send(segments: Sequence[TraceSegment]) -> list[Any]:
        if away and segments[0].number == 1:
            raise away.pop()
        return []

    sink: Any = SimpleNamespace(send=send, prepare=lambda: None, local=False)
    dead_letters: Any = None
    sender = BatchSender("mlflow", sink, dead_letters, Counter(), Counter())
    taken = []
    for number in (1, 2):
        segment = TraceSegment(TraceOrigin(), (span(number),), 1, whole=True, number=number)
        spool.add_spans(
            [SpoolRow(one, 1, number) for one in encode_each_span(segment.spans) if isinstance(one, EncodedSpan)],
            [segment],
        )
        taken.append(sender.take_batch(spool))
    first, second = taken
    assert first is not None
    assert second is not None
    with pytest.raises(BackendUnavailable):
        sender.send_batch(spool, first)
    sender.send_batch(spool, second)
    assert spool.count_ready("mlflow") == 1
    assert sender.send_next_batch(spool)
    assert not sender.send_next_batch(spool)
    assert spool.count_ready("mlflow") == 0
    spool.close()


def test_two_batches_make_one_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that are the first for a store, side by side, open it once and ask it once for an experiment."""
    asked: list[str] = []

    def find(name: str) -> str:
        time.sleep(0.2)
        asked.append(name)
        return "1"

    def open_(uri: str, _: BoundedExecutor) -> Any:
        asked.append(uri)
        return SimpleNamespace(
            most_traces=1,
            most_spans=1000,
            executor=BoundedExecutor(1),
            most_writers=1,
            request_limit=NO_LIMIT,
            write_traces=lambda *_: None,
            find_or_create_experiment=find,
            accepts_attachments=lambda _: False,
        )

    monkeypatch.setattr(sink, "_open_store", open_)
    to = sink.MlflowSink(tracking_uri="http://127.0.0.1:1", experiment="new")
    segments = [TraceSegment(TraceOrigin(), (span(number),), 1, whole=True) for number in range(1, 5)]
    threads = [threading.Thread(target=to.send, args=([segment],)) for segment in segments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert asked == ["http://127.0.0.1:1", "new"]


def test_one_hand_works_in_order() -> None:
    """An executor of one runs in the calling thread, one item after the other."""
    seen: list[Any] = []
    BoundedExecutor(1).run_each(lambda item: seen.append((item, threading.current_thread())), range(3))
    assert seen == [(item, threading.current_thread()) for item in range(3)]


@pytest.mark.parametrize(
    ("sizes", "shared"),
    [
        ([], []),
        ([1], [1]),
        ([2] * 25, [25]),  # one request's worth is one request
        ([1] * 26, [7, 6, 7, 6]),
        ([50] * 20, [20]),
        ([50] * 180, [15] * 12),
        ([20_000, 1, 1], [1, 2]),
    ],
    ids=str,
)
def test_a_batch_is_shared_evenly(sizes: list[int], shared: list[int]) -> None:
    """At most 25 traces and about 1000 spans a request, and as many requests for each of four connections."""
    store: Any = SimpleNamespace(most_traces=25, most_spans=1000, most_writers=4)
    traces: list[Any] = [SimpleNamespace(segment=SimpleNamespace(spans=range(size))) for size in sizes]
    found = list(split_portions(traces, store))
    assert [len(some) for some in found] == shared
    assert [trace for some in found for trace in some] == traces


def test_a_right_that_is_taken_away_meanwhile() -> None:
    """What is stored by the time that the store denies the rest is not sent again; nothing more is tried then."""
    together, asked = threading.Barrier(2), []

    def write(_: str, traces: Sequence[TranslatedTrace]) -> None:
        asked.append(traces[0].segment)
        together.wait(10)
        if traces[0].segment is segments[0]:
            raise StoreDenied("not you")
        time.sleep(0.5)  # in which the other one learns of it

    segments = [TraceSegment(TraceOrigin(), (span(number),), 1, whole=True) for number in range(1, 5)]
    store: Any = SimpleNamespace(
        most_traces=1,
        most_spans=1000,
        executor=BoundedExecutor(2),
        most_writers=2,
        write_traces=write,
        request_limit=NO_LIMIT,
    )
    refused = write_segments(
        store, "0", [LocatedSegment(segment, None, extracts_attachments=False) for segment in segments]
    )
    assert sorted(asked, key=segments.index) == segments[:2]
    assert [one.item for one in refused] == [segments[0], *segments[2:]]
    assert all(one.keep and one.reason == "not you" for one in refused)


def span(trace_id: int) -> ReadableSpan:
    context = SpanContext(trace_id, 1, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan("chat", context, resource=Resource({}), start_time=1, end_time=2)
