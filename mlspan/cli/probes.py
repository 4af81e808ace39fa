"""Live checks of ``mlspan doctor``: requests to the store of traces and to the OTLP receiver."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from .._extras import tell_install
from .._guard import quiet_loggers
from ..tracing.export.mlflow.names import is_experiment_id
from ..tracing.export.mlflow.sink import MlflowSink
from ..tracing.export.mlflow.store import StoreRejected, TraceStore
from ..tracing.export.shown_addresses import hide_user_info
from ..tracing.export.types import BackendUnavailable, TraceSegment
from ..tracing.operations import semconv as sc
from ..tracing.operations.call_context import TraceOrigin
from .libraries import find_version
from .places import EffectiveSetting, find_database_file

_PROBE_SPAN_NAME: Final = "mlspan doctor"
_OTLP_TIMEOUT: Final = 5  # seconds


@dataclass(frozen=True)
class CheckResult:
    """Result of one check. If *well* is False, *says* is one line that says what to do."""

    name: str
    well: bool
    says: str


def check_mlflow_store(found: Mapping[str, EffectiveSetting], *, write: bool) -> Iterator[CheckResult]:
    """Check that the store answers, that the experiment exists and, with *write*, that a trace can be stored.

    The test trace is removed again.
    """
    uri = found["tracking_uri"].value
    if uri == "none":
        yield CheckResult("MLflow", well=True, says=f"off: {found['tracking_uri'].source} says so")
        return
    file = find_database_file(uri)
    if file is not None and not file.exists():
        yield _check_new_database(file)
        return
    try:
        with _mute_logs():
            yield from _check_destination(uri, found["experiment"].value, found["run"].value, write=write)
    except (BackendUnavailable, StoreRejected) as error:
        yield CheckResult("MLflow", well=False, says=f"{error}{_suggest_fix(str(error), uri)}")
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow.", "sqlalchemy.")):
            raise
        from .mlflow_reader import explain_store_error
        from .places import StoreLocation

        yield CheckResult("MLflow", well=False, says=explain_store_error(str(error), StoreLocation(uri, None)))


def _check_new_database(file: Any) -> CheckResult:
    """Check that the database can be created in its folder."""
    folder = file.absolute().parent
    if not os.access(folder, os.W_OK):
        return CheckResult(
            "MLflow", well=False, says=f"cannot make {file}: make the folder {folder}, or its permissions, right"
        )
    if find_version("mlflow") is None and find_version("mlflow-skinny") is None:
        says = (
            f"traces for {file} need MLflow: {tell_install('mlflow')}, or set MLFLOW_TRACKING_URI to a tracking server"
        )
        return CheckResult("MLflow", well=False, says=says)
    return CheckResult("MLflow", well=True, says=f"{file} does not exist yet: the first trace makes it")


def _check_destination(uri: str, experiment: str | None, run: str | None, *, write: bool) -> Iterator[CheckResult]:
    """Check the store, the run, the experiment and, with *write*, the storing of a trace."""
    sink = MlflowSink(tracking_uri=uri, experiment=experiment, run=run)
    store = sink._find_store(uri)
    try:
        name = experiment or "0"
        if not is_experiment_id(name) and not store.has_experiment(name):
            yield CheckResult("MLflow", well=True, says=f"{hide_user_info(uri)} answers")
            yield CheckResult("experiment", well=True, says=f"{name!r} is new: the first trace makes it")
            return
        (_, experiment_id), run_id = sink.find_destination(TraceOrigin())
        yield CheckResult("MLflow", well=True, says=f"{hide_user_info(uri)} answers")
        if run and not run_id:
            yield CheckResult(
                "run", well=False, says=f"there is no run {run}: unset it, or traces are stored without a run"
            )
        yield CheckResult("experiment", well=True, says=f"{experiment or 'Default'} (id {experiment_id})")
        if write:
            yield _check_write(sink, store, uri, experiment_id)
    finally:
        sink.close()


def _check_write(sink: MlflowSink, store: TraceStore, uri: str, experiment_id: str) -> CheckResult:
    """Store a trace and delete it again."""
    span, began = _make_probe_span(), time.perf_counter()
    context = span.get_span_context()
    refused = sink.send([TraceSegment(TraceOrigin(), (span,), context.span_id if context else 0, whole=True)])
    if refused:
        return CheckResult("write", well=False, says=f"{refused[0].reason}{_suggest_fix(refused[0].reason, uri)}")
    took = (time.perf_counter() - began) * 1000
    trace_id = f"tr-{context.trace_id if context else 0:032x}"
    store.delete_trace(experiment_id, trace_id)
    return CheckResult("write", well=True, says=f"a trace was stored in {took:.0f} ms, and removed again")


def _make_probe_span() -> ReadableSpan:
    """Return a span of one millisecond to store as a test."""
    context = SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, False, TraceFlags(1))
    now = time.time_ns()
    attributes = {sc.KIND: "probe"}
    return ReadableSpan(
        _PROBE_SPAN_NAME, context, None, Resource({}), attributes, start_time=now - 1_000_000, end_time=now
    )


def _suggest_fix(message: str, uri: str) -> str:
    """Return the end of an error line that says what to do about the error *message*."""
    if "cannot reach" in message:
        return ": start it (mlflow server), or set MLFLOW_TRACKING_URI to where it is"
    if "out-of-date database schema" in message:
        return f": save a copy of it, then run: mlflow db upgrade {hide_user_info(uri)}"
    if "locked" in message or "readonly" in message:
        return ": end what holds it, or make the file writable"
    return (
        ""
        if ":" in message.partition("://")[2]
        else ": set MLFLOW_TRACKING_URI or MLSPAN_EXPERIMENT to one that is there"
    )


def _mute_logs() -> AbstractContextManager[None]:
    """Suppress log lines about errors that the report shows."""
    return quiet_loggers(logging.CRITICAL, "mlspan", "mlflow", "alembic", "urllib3")


def check_otlp_receiver(found: Mapping[str, EffectiveSetting]) -> Iterator[CheckResult]:
    """Check that the OTLP receiver accepts a request without spans. Yield nothing if no receiver is set."""
    endpoint, protocol = found["otlp_endpoint"], found["otlp_protocol"].value or "http/protobuf"
    if endpoint.value is None:
        return
    if endpoint.value == "none":
        yield CheckResult("OTLP", well=True, says=f"off: {endpoint.source} says so")
        return
    if endpoint.source.startswith("OTEL_") and os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        yield CheckResult("OTLP", well=True, says="off: OTEL_TRACES_EXPORTER=none")
        return
    target = f"{hide_user_info(endpoint.value)} ({protocol})"
    explicit_endpoint = None if endpoint.source.startswith("OTEL_") else endpoint.value
    reason = _ask_otlp_receiver(explicit_endpoint, protocol)
    if reason is None:
        yield CheckResult("OTLP", well=True, says=f"{target} accepts requests")
    else:
        hint = "start the receiver, or set OTEL_EXPORTER_OTLP_ENDPOINT and _PROTOCOL (4318 is HTTP, 4317 is gRPC)"
        yield CheckResult("OTLP", well=False, says=f"{target} takes no spans ({reason}): {hint}")


def _ask_otlp_receiver(endpoint: str | None, protocol: str) -> str | None:
    """Send a request without spans, as the exporter sends those with some. Return why it is not taken, or None."""
    from ..tracing.export.otlp.client import OtlpClient
    from ..tracing.export.otlp.sink import OtlpSink

    sink = OtlpSink(endpoint, protocol)
    try:
        with _mute_logs():
            return OtlpClient(sink.endpoint, endpoint, protocol).check()
    except BackendUnavailable as away:
        nobody = "ConnectionError" in away.reason or "UNAVAILABLE" in away.reason
        return "nothing answers there" if nobody else away.reason
    except Exception as error:  # noqa: BLE001  # a bad address, certificate or header each raises its own error
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    finally:
        sink.close()
