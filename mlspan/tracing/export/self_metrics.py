"""Metrics about mlspan itself: exported, refused and dropped spans, the length of the queue, errors of our own.

They go to the application's MeterProvider, under the names of the semantic conventions for SDK metrics where there are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from ..._guard import swallowed_errors


class _Counters(NamedTuple):
    """The counts of one export processor."""

    sent: Counter[str]
    refused: Counter[str]
    lost: Counter[str]
    count_waiting: Callable[[], int]


_counters: list[_Counters] = []
_has_instruments = False
_COMPONENT_TYPE: Final = "otel.component.type"
_ERROR_TYPE: Final = "error.type"
_PLACE: Final = "mlspan.place"  # what failed, such as "writing content"


def register_counters(
    sent: Counter[str], refused: Counter[str], lost: Counter[str], count_waiting: Callable[[], int]
) -> None:
    """Observe counts of spans for the life of the process.

    Args:
        sent: by the kind of the sink.
        refused: likewise, those that it refuses for good.
        lost: by reason, those that were dropped before any backend was asked.
        count_waiting: returns the number of spans that wait.
    """
    _counters.append(_Counters(sent, refused, lost, count_waiting))


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
    for one in _counters:
        sent.update(dict(one.sent))
        refused += sum(dict(one.refused).values())
    for kind, count in sent.items():
        yield Observation(count, {_COMPONENT_TYPE: f"mlspan_{kind}"})
    if refused:
        yield Observation(refused, {_COMPONENT_TYPE: "mlspan", _ERROR_TYPE: "refused"})


def _observe_dropped(_: Any) -> Iterable[Observation]:
    dropped = Counter[str]()
    for one in _counters:
        dropped.update(dict(one.lost))
    for reason, count in dropped.items():
        if count:
            yield Observation(count, {_COMPONENT_TYPE: "mlspan", _ERROR_TYPE: reason})


def _observe_queue_size(_: Any) -> Iterable[Observation]:
    yield Observation(sum(one.count_waiting() for one in list(_counters)), {_COMPONENT_TYPE: "mlspan"})


def _reset_counters() -> None:
    for one in _counters:
        one.sent.clear()
        one.refused.clear()
        one.lost.clear()
    swallowed_errors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_counters)
