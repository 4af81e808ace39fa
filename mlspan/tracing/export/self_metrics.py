"""Metrics about mlspan itself: exported, refused and dropped spans, the length of the queue, errors of our own.

They go to the application's MeterProvider, under the names of the semantic conventions for SDK metrics where there are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from ..._guard import swallowed_errors

_counters: list[tuple[Counter[str], Counter[str], Callable[[], int]]] = []
_has_instruments = False
_COMPONENT_TYPE: Final = "otel.component.type"
_ERROR_TYPE: Final = "error.type"
_PLACE: Final = "mlspan.place"  # what failed, such as "writing content"


def register_counters(sent: Counter[str], lost: Counter[str], waiting: Callable[[], int]) -> None:
    """Observe these for the life of the process: *sent* by sink, *lost* by reason, and the number of waiting spans."""
    _counters.append((sent, lost, waiting))


def create_instruments(version: str) -> None:
    """Create the instruments once. They follow a MeterProvider that is set later."""
    global _has_instruments
    if _has_instruments:
        return
    _has_instruments = True
    meter = metrics.get_meter("mlspan", version)
    meter.create_observable_counter(
        "otel.sdk.exporter.span.exported",
        [_observe_exported],
        unit="{span}",
        description="Spans that a backend has taken, or with error.type refused for good.",
    )
    meter.create_observable_counter(
        "otel.sdk.processor.span.processed",
        [_observe_dropped],
        unit="{span}",
        description="Spans that were dropped before any backend was asked, by error.type.",
    )
    meter.create_observable_up_down_counter(
        "otel.sdk.processor.span.queue.size",
        [_observe_queue_size],
        unit="{span}",
        description="Spans that wait to be taken by every backend.",
    )

    meter.create_observable_counter(
        "mlspan.errors",
        [_observe_errors],
        unit="{error}",
        description="Errors of mlspan's own code that were swallowed, such as an attribute that could not be written.",
    )


def _observe_errors(_: Any) -> Iterable[Observation]:
    for place, count in dict(swallowed_errors).items():
        yield Observation(count, {_COMPONENT_TYPE: "mlspan", _PLACE: place})


def _observe_exported(_: Any) -> Iterable[Observation]:
    sent, refused = Counter[str](), 0
    for taken, lost, _now in _counters:
        sent.update(dict(taken))
        refused += lost["refused"]
    for kind, count in sent.items():
        yield Observation(count, {_COMPONENT_TYPE: f"mlspan_{kind}"})
    if refused:
        yield Observation(refused, {_COMPONENT_TYPE: "mlspan", _ERROR_TYPE: "refused"})


def _observe_dropped(_: Any) -> Iterable[Observation]:
    dropped = Counter[str]()
    for _sent, lost, _now in _counters:
        dropped.update(dict(lost))
    for reason, count in dropped.items():
        if count and reason != "refused":
            yield Observation(count, {_COMPONENT_TYPE: "mlspan", _ERROR_TYPE: reason})


def _observe_queue_size(_: Any) -> Iterable[Observation]:
    yield Observation(sum(waiting() for *_others, waiting in list(_counters)), {_COMPONENT_TYPE: "mlspan"})


def _reset_counters() -> None:
    for sent, lost, _now in _counters:
        sent.clear()
        lost.clear()
    swallowed_errors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_counters)
