"""The conventions' metrics of MCP, recorded by the MeterProvider that the application has set, if any."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics
from opentelemetry.trace import SpanKind

from ..._version import __version__
from ...tracing.operations import semconv as sc

if TYPE_CHECKING:
    from .requests import Request

PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_real_instrument": "nothing: measurements are made where no provider takes them",
}
_SECONDS: Final = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300]
_DIMENSIONS: Final = frozenset(
    {
        *(sc.MCP_PROTOCOL_VERSION, sc.NETWORK_TRANSPORT, sc.NETWORK_PROTOCOL_NAME, sc.NETWORK_PROTOCOL_VERSION),
        *(sc.SERVER_ADDRESS, sc.SERVER_PORT, sc.RPC_STATUS_CODE),
    }
)
_PLACES: Final = {sc.SERVER_ADDRESS, sc.SERVER_PORT}  # which only the client's metrics have


@cache
def _get_histogram(name: str) -> metrics.Histogram:
    return metrics.get_meter("mlspan", __version__).create_histogram(
        name,
        unit="s",
        description="Duration of MCP requests, or of sessions.",
        explicit_bucket_boundaries_advisory=_SECONDS,
    )


def record_duration(request: Request, seconds: float) -> None:
    """Measure *request*, which has taken *seconds*, as its side has seen it."""
    is_sent, is_tool_call = request.kind is SpanKind.CLIENT, request.method == "tools/call"
    histogram = _get_histogram(sc.METRIC_MCP_CLIENT_DURATION if is_sent else sc.METRIC_MCP_SERVER_DURATION)
    if getattr(histogram, "_real_instrument", histogram) is None:  # no MeterProvider is set: it would go nowhere
        return
    measured = {
        name: value
        for name, value in request.attributes.items()
        if name in _DIMENSIONS and (is_sent or name not in _PLACES)
    }
    measured[sc.MCP_METHOD] = request.method
    if is_tool_call:
        measured[sc.OPERATION] = sc.EXECUTE_TOOL
    if (target := request.target) is not None:
        measured[sc.TOOL_NAME if is_tool_call else sc.PROMPT_NAME] = target
    if request.error_type is not None:
        measured[sc.ERROR_TYPE] = request.error_type
    histogram.record(seconds, measured)
