"""Metrics about mlspan itself: counts of exported, refused and dropped spans, and the length of the queue.

They go to the application's MeterProvider, under the names of the semantic conventions for SDK metrics.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import Observation

_counts: list[tuple[Counter[str], Counter[str], Callable[[], int]]] = []
_observed = False
_COMPONENT: Final = "otel.component.type"
_ERROR: Final = "error.type"


def follow(sent: Counter[str], lost: Counter[str], waiting: Callable[[], int]) -> None:
    """Observe these for the life of the process: *sent* by sink, *lost* by reason, and the number of waiting spans."""
    _counts.append((sent, lost, waiting))


def observe(version: str) -> None:
    """Create the instruments once. They follow a MeterProvider that is set later."""
    global _observed
    if _observed:
        return
    _observed = True
    meter = metrics.get_meter("mlspan", version)
    meter.create_observable_counter(
        "otel.sdk.exporter.span.exported",
        [_exported],
        unit="{span}",
        description="Spans that a backend has taken, or with error.type refused for good.",
    )
    meter.create_observable_counter(
        "otel.sdk.processor.span.processed",
        [_dropped],
        unit="{span}",
        description="Spans that were dropped before any backend was asked, by error.type.",
    )
    meter.create_observable_up_down_counter(
        "otel.sdk.processor.span.queue.size",
        [_waiting],
        unit="{span}",
        description="Spans that wait to be taken by every backend.",
    )


def _exported(_: Any) -> Iterable[Observation]:
    sent, refused = Counter[str](), 0
    for taken, lost, _now in _counts:
        sent.update(dict(taken))
        refused += lost["refused"]
    for kind, count in sent.items():
        yield Observation(count, {_COMPONENT: f"mlspan_{kind}"})
    if refused:
        yield Observation(refused, {_COMPONENT: "mlspan", _ERROR: "refused"})


def _dropped(_: Any) -> Iterable[Observation]:
    dropped = Counter[str]()
    for _sent, lost, _now in _counts:
        dropped.update(dict(lost))
    for reason, count in dropped.items():
        if count and reason != "refused":
            yield Observation(count, {_COMPONENT: "mlspan", _ERROR: reason})


def _waiting(_: Any) -> Iterable[Observation]:
    yield Observation(sum(waiting() for *_others, waiting in list(_counts)), {_COMPONENT: "mlspan"})


def _begin_anew() -> None:
    for sent, lost, _now in _counts:
        sent.clear()
        lost.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
