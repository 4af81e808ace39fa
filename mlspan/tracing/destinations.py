"""Destinations: the sinks, the spool settings and the pipeline that a Config asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .export.destination import fill_destination, make_store_path_absolute, restore_credentials, strip_credentials
from .export.otlp.environment import exports_otlp, read_variable
from .export.otlp.log_filter import silence_own_threads
from .export.otlp.sink import OtlpSink
from .export.processor import ExportProcessor
from .export.spool.limits import SpoolSettings
from .export.trace_assembler import TraceAssembler
from .export.types import Sink, SinkKind
from .operations.call_context import TraceOrigin
from .operations.content import make_redactor
from .settings.config import Config

if TYPE_CHECKING:
    from .export.mlflow.sink import MlflowSink


def make_mlflow_sink(config: Config) -> MlflowSink | None:
    """Return the sink for MLflow, or None if *config* turns MLflow off."""
    if config.tracking_uri == "none":
        return None
    from .export.mlflow.sink import MlflowSink

    return MlflowSink(tracking_uri=config.tracking_uri, experiment=config.experiment, run=config.run)


def needs_otlp(config: Config, provider: object) -> bool:
    """Return whether an OTLP sink was asked for, or the environment names a receiver that *provider* does not serve."""
    if config.otlp_endpoint is not None:
        return config.otlp_endpoint != "none"
    return (
        bool(read_variable("ENDPOINT"))
        and os.environ.get("OTEL_TRACES_EXPORTER") != "none"
        and not exports_otlp(provider)
    )


def make_export_pipeline(
    config: Config, origin: Callable[[], TraceOrigin], mlflow: MlflowSink | None, *, by_otlp: bool
) -> ExportProcessor:
    """Return the pipeline for the spans of one provider.

    Args:
        config: the settings.
        origin: returns the caller's destination and labels when a trace starts.
        mlflow: a sink that says where MLflow is; the pipeline makes sinks of its own.
        by_otlp: whether spans are also sent by OTLP.
    """
    silence_own_threads()
    sinks: dict[SinkKind, tuple[Callable[[], Any], dict[str, object]]] = {}
    if mlflow is not None:
        sinks["mlflow"] = (
            partial(make_mlflow_sink, config),
            {"tracking_uri": strip_credentials(make_store_path_absolute(mlflow.default_uri))},
        )
    if by_otlp:
        make = partial(OtlpSink, config.otlp_endpoint, config.otlp_protocol, names=config.otlp_names)
        example = make()
        where: dict[str, object] = {"endpoint": strip_credentials(example.endpoint), "protocol": example.protocol}
        sinks["otlp"] = (make, where | ({"names": config.otlp_names} if config.otlp_names else {}))
    return ExportProcessor(
        sinks,
        origin,
        keeping=make_spool_settings(config),
        address=partial(
            fill_destination, uri=mlflow.default_uri if mlflow else "", experiment=config.experiment, run=config.run
        ),
        assembly=partial(_make_assembler, config),
        held=config.keep is not None,
        redact=make_redactor(config.redact),
        capture=config.capture_content,
    )


def _make_assembler(config: Config) -> TraceAssembler:
    """Return what puts traces together, with tail sampling if *config* asks for it."""
    if config.sample_ratio >= 1 and config.keep is None:
        return TraceAssembler(partial_interval=config.partial_interval)
    from .export.tail_sampling import TailSampler

    return TraceAssembler(TailSampler(config.sample_ratio, config.keep))


def make_spool_settings(config: Config) -> SpoolSettings:
    """Return where spans wait to be sent, how many, and for how long."""
    folder = Path(config.spool_dir).expanduser().absolute() if config.spool_dir else None
    return SpoolSettings(config.durability, folder, config.spool_bytes, config.spool_age)


def open_sink(kind: SinkKind, where: Mapping[str, Any], tracking_uri: str | None) -> Sink:
    """Return the sink that a spool describes.

    Args:
        kind: the kind of sink.
        where: its address, as stored in the spool.
        tracking_uri: a tracking server or database that replaces the stored one.
    """
    if kind == "otlp":
        endpoint, names = restore_credentials(where["endpoint"]), where.get("names")
        return OtlpSink(endpoint, where["protocol"], of_spool=True, names=names)
    from .export.mlflow.sink import MlflowSink
    from .export.spool.drain import RedirectingSink

    uri = tracking_uri or restore_credentials(where["tracking_uri"])
    sink = MlflowSink(tracking_uri=uri, of_spool=tracking_uri is None)
    return sink if tracking_uri is None else RedirectingSink(sink, tracking_uri)
