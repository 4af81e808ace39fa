"""The private names of OpenTelemetry that mlspan uses, each with what is done where an SDK lacks it.

No module outside of this package uses one. :data:`PRIVATE_NAMES` lists them; a test renames each of them in the SDK and
checks that spans still arrive, by public means, and that one warning says what is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import opentelemetry.attributes
import opentelemetry.context as otel
import opentelemetry.sdk.trace as sdk
import opentelemetry.sdk.util
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from ..._guard import warn_once
from ..._private_names import report_missing_name

# What is lost without a name, in the words of the warning.
_SUPPRESSION: Final = "other instrumentations may trace the requests by which mlspan sends its spans"
_PROCESSORS: Final = "spans may be sent twice where the application's TracerProvider exports them itself"
FAST_SPANS: Final = "spans are started by its tracer, which takes four times as long"
_FROZEN_SPANS: Final = "ended spans are copied by its own means, which takes longer"
_ENCODER: Final = "unusual spans take longer to encode"
_GRPC: Final = "OTLP by gRPC is sent by the stock exporter, which retries by itself"
_SETTER: Final = "a TracerProvider is noticed at the first call after it is set, and earlier spans of it are not sent"
_SAMPLER: Final = "sampling is decided when a span starts, which takes longer"

# Private names, and public ones of modules without documentation, by what is lost without them.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_SUPPRESS_INSTRUMENTATION_KEY": _SUPPRESSION,
    "_active_span_processor": _PROCESSORS,
    "_span_processors": _PROCESSORS,
    "_encode_span": _ENCODER,
    "_set_tracer_provider": _SETTER,
    **dict.fromkeys(("_client", "_headers", "_timeout", "_endpoint"), _GRPC),
    **dict.fromkeys(("_Span", "BoundedAttributes", "BoundedList", "_span_limits"), FAST_SPANS),
    **dict.fromkeys(("_dict", "_limits", "_span_processor", "_sampler"), FAST_SPANS),
    **dict.fromkeys(("_name", "_context", "_kind", "_parent", "_resource", "_start_time"), _FROZEN_SPANS),
    **dict.fromkeys(("_attributes", "_events", "_links", "_status", "_instrumentation_scope"), _FROZEN_SPANS),
    **dict.fromkeys(("_root", "_decision"), _SAMPLER),
    **dict.fromkeys(("_local_parent_sampled", "_local_parent_not_sampled"), _SAMPLER),
    **dict.fromkeys(("_remote_parent_sampled", "_remote_parent_not_sampled"), _SAMPLER),
}

# Private names that some versions lack, each with what is then left out. Those of spans are set as the SDK's own are.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_update_resource": "a forked child has the process id of its parent in the resource of its spans",
    **dict.fromkeys(
        ("_end_time", "_record_end_metrics", "_trace_config", "_record_exception"), "what older spans lack"
    ),
    **dict.fromkeys(("_set_status_on_exception", "_instrumentation_info"), "what newer spans lack"),
    **dict.fromkeys(("_extended_attributes", "_immutable", "_lock"), "what other containers of attributes lack"),
    **dict.fromkeys(("_tracer_metrics", "_tracer_config", "_is_enabled"), "what older tracers lack"),
    "_TRACER_PROVIDER": "that a provider which a test has set is taken away again; and each call takes longer",
    "_internal": "see _encode_span",
}

SDK_ENCODER_LOGGER: Final = "opentelemetry.exporter.otlp.proto.common._internal"
_PLAIN_SUPPRESSION_KEY: Final = "suppress_instrumentation"  # the key of older instrumentations


def report_missing(name: str, lost: str = "") -> None:
    """Log, once for each ability that is *lost*, that this version of OpenTelemetry lacks *name*."""
    report_missing_name("OpenTelemetry", name, lost or PRIVATE_NAMES[name])


def report_unknown(fields: set[str]) -> None:
    """Log once that spans of this version of OpenTelemetry have fields that the fast span does not know."""
    warn_once(
        "mlspan: spans of this version of OpenTelemetry have unknown fields (%s), so %s",
        ", ".join(sorted(fields)),
        FAST_SPANS,
    )


def _find(owner: Any, name: str, fallback: Any) -> Any:
    """Return an attribute of a module, or *fallback* with a warning."""
    found = getattr(owner, name, None)
    if found is None:
        report_missing(name)
        return fallback
    return found


# Suppression: under this key of a context, instrumentations look whether they are to record nothing.
SUPPRESSION_KEY: Final[str] = _find(otel, "_SUPPRESS_INSTRUMENTATION_KEY", _PLAIN_SUPPRESSION_KEY)


def suppress_on_this_thread() -> None:
    """Suppress instrumentation for as long as this thread runs, so that nobody traces our sending."""
    otel.attach(otel.set_value(SUPPRESSION_KEY, value=True))


@contextmanager
def suppress_instrumentation() -> Iterator[None]:
    """Suppress instrumentation inside the block, so that nobody traces our sending."""
    token = otel.attach(otel.set_value(SUPPRESSION_KEY, value=True))
    try:
        yield
    finally:
        otel.detach(token)


# Parts of the fast span. The stand-ins only make its class definable: without all three no fast span is started.
SdkSpan: Any = _find(sdk, "_Span", sdk.Span)
BoundedAttributes: Any = _find(opentelemetry.attributes, "BoundedAttributes", object)
BoundedList: Any = _find(opentelemetry.sdk.util, "BoundedList", object)
HAS_FAST_SPAN_PARTS: Final = SdkSpan is not sdk.Span and BoundedAttributes is not object and BoundedList is not object


def find_span_limits(span: Any) -> Any:
    """Return the SpanLimits of *span*; None for a span of another kind, which the SDK itself then cuts to size."""
    return getattr(span, "_limits", None)


def find_sdk_provider(provider: object) -> TracerProvider | None:
    """Return *provider* if it is one of the SDK, else the one that it stands for; None if it shows none."""
    held = [provider, *getattr(provider, "__dict__", {}).values()]
    return next((each for each in held if isinstance(each, TracerProvider)), None)


def list_span_processors(provider: object) -> tuple[SpanProcessor, ...]:
    """Return the processors of *provider*. There is no public way; where they are not found, none."""
    found = find_sdk_provider(provider)
    if found is None:
        return ()
    active = getattr(found, "_active_span_processor", None)
    if active is None:
        report_missing("_active_span_processor")
        return ()
    processors = getattr(active, "_span_processors", None)
    if processors is None:
        report_missing("_span_processors")
        return ()
    return tuple(processors)


def find_span_encoder() -> Callable[[Any], Any] | None:
    """Return the SDK's function that encodes one span; None if there is none.

    The public one encodes resource and scope each time, which costs more.
    """
    try:
        from opentelemetry.exporter.otlp.proto.common._internal import trace_encoder
    except ImportError:
        trace_encoder = None  # type: ignore[assignment]
    found: Callable[[Any], Any] | None = _find(trace_encoder, "_encode_span", None)
    return found


def find_grpc_call(exporter: Any) -> tuple[str, Callable[[Any], Any]] | None:
    """Return the endpoint of the stock gRPC exporter and a function that sends one request; None if there is none.

    The function raises grpc.RpcError. The exporter's public method would retry by itself.
    """
    for name in ("_endpoint", "_client", "_headers", "_timeout"):
        if not hasattr(exporter, name):
            report_missing(name)
            return None

    def export(request: Any) -> Any:
        return exporter._client.Export(request=request, metadata=exporter._headers, timeout=min(exporter._timeout, 10))

    return exporter._endpoint, export


def list_tracer_processors(tracer: object) -> tuple[SpanProcessor, ...] | None:
    """Return the processors of the provider that made *tracer*; None if that is not told, as by a proxy."""
    active = getattr(tracer, "span_processor", None)
    return None if active is None else tuple(getattr(active, "_span_processors", ()))
