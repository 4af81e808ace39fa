"""Metrics: the conventions' client metrics, recorded by the MeterProvider that the application has set, if any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from opentelemetry import metrics

from ..._shape import read_count
from . import semconv as sc
from .late_queue import LateQueue
from .records import Chat, ModelCall, Record

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_real_meter": "nothing: measurements are made where no provider takes them",
}

_Buckets = Sequence[float]
_SECONDS: _Buckets = [0.01 * 2**power for power in range(14)]
_TOKENS: _Buckets = [4**power for power in range(14)]
_AGENT_SECONDS: _Buckets = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6]
_WORKFLOW_SECONDS: _Buckets = [1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200]
_HISTOGRAMS: Final[Mapping[str, tuple[str, str, _Buckets]]] = {  # name -> unit, description and buckets
    sc.METRIC_OPERATION_DURATION: ("s", "GenAI operation duration.", _SECONDS),
    sc.METRIC_TOOL_DURATION: ("s", "Duration of a tool's execution.", _SECONDS),
    sc.METRIC_AGENT_DURATION: ("s", "Duration of an agent's turn.", _AGENT_SECONDS),
    sc.METRIC_WORKFLOW_DURATION: ("s", "Duration of a workflow.", _WORKFLOW_SECONDS),
    sc.METRIC_TOKEN_USAGE: ("{token}", "Number of input and output tokens used.", _TOKENS),
    sc.METRIC_TIME_TO_FIRST_CHUNK: ("s", "Time to receive the first chunk of a streamed answer.", _SECONDS),
    sc.METRIC_TIME_PER_OUTPUT_CHUNK: ("s", "Time between two chunks of a streamed answer.", _SECONDS),
}


class Measurement(NamedTuple):
    """A call that has ended: its record, how many seconds it took, its error, and when each chunk came, in seconds."""

    record: Record
    seconds: float
    error_type: str | None
    chunk_times: Sequence[float] = ()


class Instruments:
    """The histograms of one meter. They are created once and follow a MeterProvider that is set later."""

    def __init__(self, version: str) -> None:
        self._meter = meter = metrics.get_meter("mlspan", version)
        self._histograms = {
            name: meter.create_histogram(
                name, unit=unit, description=description, explicit_bucket_boundaries_advisory=buckets
            )
            for name, (unit, description, buckets) in _HISTOGRAMS.items()
        }
        self._late_calls = LateQueue(self._write_measurement, most=10_000)

    def has_meter_provider(self) -> bool:
        """Return whether the application has set a MeterProvider. Without one, measurements go nowhere."""
        return getattr(self._meter, "_real_meter", self._meter) is not None  # get_meter_provider() is slow

    def record_call(self, measured: Measurement, *, collecting: bool = False) -> None:
        """Measure one call that has ended.

        *collecting* is True in a finalizer, where the SDK's locks may not be taken; the call is then measured later.
        """
        self._late_calls.add_item(measured, collecting=collecting)

    def record_late_calls(self) -> None:
        """Measure the calls that have ended in finalizers."""
        self._late_calls.write_items()

    def _write_measurement(self, measured: Measurement) -> None:
        """Write the duration of one call, and of a call to a model its tokens and the times of its chunks."""
        record, seconds, error_type, chunk_times = measured
        attributes: dict[str, Any] = record.build_start_attributes()
        failed = {**attributes, sc.ERROR_TYPE: error_type} if error_type else attributes
        if not isinstance(record, ModelCall):
            self._histograms[record.duration_metric or ""].record(seconds, failed)
            return
        if record.response_model:
            attributes[sc.RESPONSE_MODEL] = failed[sc.RESPONSE_MODEL] = record.response_model
        self._histograms[sc.METRIC_OPERATION_DURATION].record(seconds, failed)
        for kind in ("input", "output"):
            if (tokens := read_count(getattr(record, f"{kind}_tokens", None))) is not None:
                self._histograms[sc.METRIC_TOKEN_USAGE].record(tokens, {**attributes, sc.TOKEN_TYPE: kind})
        if isinstance(record, Chat) and record.time_to_first_chunk is not None:
            self._histograms[sc.METRIC_TIME_TO_FIRST_CHUNK].record(record.time_to_first_chunk, attributes)
        for before, after in pairwise(chunk_times):
            self._histograms[sc.METRIC_TIME_PER_OUTPUT_CHUNK].record(after - before, attributes)
