"""Metrics: the conventions' client metrics, recorded by the MeterProvider that the application has set, if any."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from opentelemetry import metrics

from . import semconv as sc
from .records import Chat, ModelCall

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_real_meter": "nothing: measurements are made where no provider takes them",
}

_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]

_Measurement = tuple[ModelCall, float, "str | None"]


class Instruments:
    """The histograms of one meter. They are created once and follow a MeterProvider that is set later."""

    def __init__(self, version: str) -> None:
        self._meter = meter = metrics.get_meter("mlspan", version)
        self._duration = meter.create_histogram(
            sc.METRIC_OPERATION_DURATION,
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            sc.METRIC_TOKEN_USAGE,
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._first_chunk = meter.create_histogram(
            sc.METRIC_TIME_TO_FIRST_CHUNK,
            unit="s",
            description="Time to receive the first chunk of a streamed answer.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._late_calls: deque[_Measurement] = deque(maxlen=10_000)

    def has_meter_provider(self) -> bool:
        """Return whether the application has set a MeterProvider. Without one, measurements go nowhere."""
        return getattr(self._meter, "_real_meter", self._meter) is not None  # get_meter_provider() is slow

    def record_call(
        self, record: ModelCall, seconds: float, error_type: str | None, *, collecting: bool = False
    ) -> None:
        """Measure one call that has ended.

        Args:
            record: the call's record.
            seconds: the duration of the call.
            error_type: the type of its error, if it failed.
            collecting: True in a finalizer, where the SDK's locks may not be taken; the call is then measured later.
        """
        self._late_calls.append((record, seconds, error_type))
        if not collecting:
            self.record_late_calls()

    def record_late_calls(self) -> None:
        """Measure the calls that have ended in finalizers."""
        while self._late_calls:
            try:
                measured = self._late_calls.popleft()
            except IndexError:  # another thread has taken it
                return
            self._write_measurement(*measured)

    def _write_measurement(self, record: ModelCall, seconds: float, error_type: str | None) -> None:
        """Write the duration, the token counts and the time to the first chunk of one call."""
        attributes: dict[str, Any] = record.build_start_attributes()
        if record.response_model:
            attributes[sc.RESPONSE_MODEL] = record.response_model
        self._duration.record(seconds, {**attributes, sc.ERROR_TYPE: error_type} if error_type else attributes)
        for kind in ("input", "output"):
            if (tokens := getattr(record, f"{kind}_tokens", None)) is not None:
                self._tokens.record(tokens, {**attributes, sc.TOKEN_TYPE: kind})
        if isinstance(record, Chat) and record.time_to_first_chunk is not None:
            self._first_chunk.record(record.time_to_first_chunk, attributes)
