"""Several writings at once: how many, in which order, what an error ends; and how a batch is shared among them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from mlspan.tracing.context import Origin
from mlspan.tracing.export.crew import Crew
from mlspan.tracing.export.mlflow import Denied
from mlspan.tracing.export.mlflow_trace import Trace
from mlspan.tracing.export.mlflow_write import Addressed, portions, write_all
from mlspan.tracing.export.parcel import Away, Parcel


def test_as_many_at_once_as_there_are_hands() -> None:
    """Three of four items are worked on at the same time by a crew of three; the thread that asks is one of them."""
    together, threads = threading.Barrier(3), set()

    def work(item: int) -> None:
        threads.add(threading.current_thread())
        if item < 3:
            together.wait(10)

    Crew(3).each(work, range(4))
    assert len(threads) == 3
    assert threading.current_thread() in threads
    assert not any(thread.is_alive() for thread in threads - {threading.current_thread()})


def test_work_within_work() -> None:
    """Who is free helps from inside of work too, and nobody waits for hands that are all busy."""
    crew, seen = Crew(2), set()
    lock = threading.Lock()

    def inner(item: tuple[int, int]) -> None:
        with lock:
            seen.add(item)

    def outer(item: int) -> None:
        crew.each(inner, [(item, number) for number in range(5)])

    crew.each(outer, range(4))
    assert len(seen) == 20


def test_an_error_ends_it() -> None:
    """Nothing is begun after an error; of several, that the backend is away is raised before any other."""
    together, begun = threading.Barrier(2), []

    def work(item: int) -> None:
        begun.append(item)
        together.wait(10)
        raise ValueError(item) if item == 0 else Away("gone")

    with pytest.raises(Away):
        Crew(2).each(work, range(10))
    assert sorted(begun) == [0, 1]


def test_one_hand_works_in_order() -> None:
    """A crew of one is the thread that asks, one item after the other."""
    seen: list[Any] = []
    Crew(1).each(lambda item: seen.append((item, threading.current_thread())), range(3))
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
    store: Any = SimpleNamespace(most_traces=25, most_spans=1000, crew=SimpleNamespace(most=4))
    traces: list[Any] = [SimpleNamespace(parcel=SimpleNamespace(spans=range(size))) for size in sizes]
    found = list(portions(traces, store))
    assert [len(some) for some in found] == shared
    assert [trace for some in found for trace in some] == traces


def test_a_right_that_is_taken_away_meanwhile() -> None:
    """What is stored by the time that the store denies the rest is not sent again; nothing more is tried then."""
    together, asked = threading.Barrier(2), []

    def write(_: str, traces: Sequence[Trace]) -> None:
        asked.append(traces[0].parcel)
        together.wait(10)
        if traces[0].parcel is parcels[0]:
            raise Denied("not you")
        time.sleep(0.5)  # in which the other one is told

    parcels = [Parcel(Origin(), (span(number),), 1, whole=True) for number in range(1, 5)]
    store: Any = SimpleNamespace(most_traces=1, most_spans=1000, crew=Crew(2), write=write)
    refused = write_all(store, "0", [Addressed(parcel, None, offload=False) for parcel in parcels])
    assert sorted(asked, key=parcels.index) == parcels[:2]
    assert [one.parcel for one in refused] == [parcels[0], *parcels[2:]]
    assert all(one.keep and one.reason == "not you" for one in refused)


def span(trace_id: int) -> ReadableSpan:
    context = SpanContext(trace_id, 1, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan("chat", context, resource=Resource({}), start_time=1, end_time=2)
