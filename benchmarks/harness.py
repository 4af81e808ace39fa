"""How things are timed: variants take turns, call by call, so that what else the machine does falls on all alike.

`turns` takes the time on the clock, `turns_of_processor` that of the processor alone: a busy machine changes it less.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter, process_time
from typing import Any, NamedTuple

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider


class Time(NamedTuple):
    """Microseconds of one call: the median, and the lowest decile, which a loaded machine disturbs least."""

    median: float
    low: float

    def over(self, other: Time, parts: int = 1) -> Time:
        """What this adds to *other*, for each of *parts*."""
        return Time((self.median - other.median) / parts, (self.low - other.low) / parts)


def turns(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Time]:
    """The times of each variant, over *rounds* in which each takes its turn, after some to warm up.

    In an order that changes, as whoever comes after a heavy one finds the processor's caches without its own.
    """
    return {name: summarize(each) for name, each in _take_turns(variants, rounds, timed).items()}


class Switched(NamedTuple):
    """A variant that takes its turns in this process, and what makes it what it is: tracing on, or off."""

    switch: Callable[[], None]
    run: Callable[[], object]


def turns_of_processor(variants: Mapping[str, Switched], rounds: int, calls: int, warm_up: int) -> dict[str, Time]:
    """The processor's time of one call of each variant but the first: what it adds to the first in the same round.

    A turn is the quickest of so many *calls*, after others to warm up: where a class is patched, the interpreter
    specializes all code that uses it anew. A difference within a round leaves out what slows the machine for longer.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    order, dice = list(variants.items()), random.Random(0)
    for turn in range(-1, rounds):
        dice.shuffle(order)
        for name, variant in order:
            variant.switch()
            gc.collect()
            gc.freeze()  # else a collection walks all that is there
            taken = processor_timed(variant.run, calls, warm_up)
            if turn >= 0:
                times[name].append(taken)
    (first, base), *others = times.items()
    differences = {name: [one - other for one, other in zip(each, base, strict=True)] for name, each in others}
    return {first: summarize(base), **{name: summarize(each) for name, each in differences.items()}}


def _take_turns(
    variants: Mapping[str, Callable[[], object]], rounds: int, measure: Callable[[Callable[[], object]], float]
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in variants}
    order, dice = list(variants.items()), random.Random(0)
    for turn in range(-rounds // 10, rounds):
        dice.shuffle(order)
        for name, run in order:
            taken = run.turn(measure) if isinstance(run, ForkedVariant) else measure(run)
            if turn >= 0:
                times[name].append(taken)
    return times


def summarize(times: list[float]) -> Time:
    return Time(statistics.median(times), statistics.quantiles(times, n=10)[0])


def timed(run: Callable[[], object]) -> float:
    started = perf_counter()
    run()
    return (perf_counter() - started) * 1e6


def processor_timed(run: Callable[[], object], calls: int, warm_up: int) -> float:
    """Return the processor's time of the quickest of *calls*, in microseconds, of all threads."""
    taken = []
    for _ in range(calls + warm_up):
        started = process_time()
        run()
        taken.append(process_time() - started)
    return min(taken[warm_up:]) * 1e6


class ForkedVariant:
    """A variant in a fork of this process, made before anything is patched here: it stays as bare as it was."""

    def __init__(self, run: Callable[[], object]) -> None:
        fork = multiprocessing.get_context("fork")
        self._here, there = fork.Pipe()
        fork.Process(target=_serve, args=(run, there), daemon=True).start()

    def turn(self, measure: Callable[[Callable[[], object]], float]) -> float:
        """Have the fork *measure* a call; it is a function that can be pickled."""
        self._here.send(measure)
        if not self._here.poll(600):
            raise TimeoutError("a variant has not answered for ten minutes")
        return float(self._here.recv())


def _serve(run: Callable[[], object], pipe: Any) -> None:
    while pipe.poll(600) and (measure := pipe.recv()):
        pipe.send(measure(run))


class Counting(SpanProcessor):
    """Where spans go: they are counted and forgotten. Exporting is measured elsewhere."""

    ended = 0
    last: Any = None

    def on_end(self, span: object) -> None:
        self.ended += 1
        self.last = span


def provider() -> tuple[TracerProvider, Counting]:
    """The application's TracerProvider, which turning on sets: before that, a framework's own spans are none."""
    made, counting = TracerProvider(shutdown_on_exit=False), Counting()
    made.add_span_processor(counting)
    return made, counting


def bare_span(tracer: trace.Tracer) -> None:
    """The least that any span costs: the SDK's own, current for a moment, with nothing on it."""
    span = tracer.start_span("span")
    token = otel.attach(trace.set_span_in_context(span))
    otel.detach(token)
    span.end()
