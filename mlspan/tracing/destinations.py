"""From a Config to where spans go: sinks, how spans are kept until they are there, and the pipeline between."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider

from .config import Config
from .content import redactor
from .context import Origin
from .export.address import address, bare, full, settled
from .export.assembly import Assembly
from .export.keeping import Keeping
from .export.otlp import OtlpSink, exports_otlp
from .export.parcel import Kind, Sink
from .export.pipeline import Pipeline

if TYPE_CHECKING:
    from .export.mlflow import MlflowSink


def mlflow_sink(config: Config) -> MlflowSink | None:
    """None where *config* wants no MLflow."""
    if config.tracking_uri == "none":
        return None
    from .export.mlflow import MlflowSink

    return MlflowSink(tracking_uri=config.tracking_uri, experiment=config.experiment, run=config.run)


def needs_otlp(config: Config, provider: TracerProvider) -> bool:
    """Whether it was asked for, or the environment names a receiver that *provider* lacks."""
    environ = os.environ
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if config.otlp_endpoint is not None:
        return config.otlp_endpoint != "none"
    return bool(named) and environ.get("OTEL_TRACES_EXPORTER") != "none" and not exports_otlp(provider)


def pipeline(config: Config, origin: Callable[[], Origin], mlflow: MlflowSink | None, *, by_otlp: bool) -> Pipeline:
    """What spans of a provider go through. *mlflow* says where to; the pipeline has a sink of its own."""
    sinks: dict[Kind, tuple[Callable[[], Any], dict[str, Any]]] = {}
    if mlflow is not None:
        sinks["mlflow"] = (partial(mlflow_sink, config), {"tracking_uri": bare(settled(mlflow._uri))})
    if by_otlp:
        make = partial(OtlpSink, config.otlp_endpoint, config.otlp_protocol)
        said = make()
        sinks["otlp"] = (make, {"endpoint": bare(said.endpoint), "protocol": said.protocol})
    return Pipeline(
        sinks,
        origin,
        keeping=keeping(config),
        address=partial(address, uri=mlflow._uri if mlflow else "", experiment=config.experiment, run=config.run),
        assembly=partial(_assembly, config),
        held=config.keep is not None,
        redact=redactor(config.redact),
    )


def _assembly(config: Config) -> Assembly:
    if config.sample_ratio >= 1 and config.keep is None:
        return Assembly()
    from .export.sampling import Sampling

    return Assembly(Sampling(config.sample_ratio, config.keep))


def keeping(config: Config) -> Keeping:
    """Where *config* has spans wait, and how many."""
    folder = Path(config.spool_dir).expanduser().absolute() if config.spool_dir else None
    return Keeping(config.durability, folder, config.spool_bytes, config.spool_age)  # type: ignore[arg-type]  # checked


def open_sink(kind: Kind, where: Mapping[str, Any], tracking_uri: str | None) -> Sink:
    """Of what a spool says; *tracking_uri*: for traces that are to go elsewhere."""
    if kind == "otlp":
        return OtlpSink(full(where["endpoint"]), where["protocol"])
    from .export.drain import Redirected
    from .export.mlflow import MlflowSink

    sink = MlflowSink(tracking_uri=tracking_uri or full(where["tracking_uri"]))
    return sink if tracking_uri is None else Redirected(sink, tracking_uri)
