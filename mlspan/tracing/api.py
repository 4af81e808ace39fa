"""The public functions of :mod:`mlspan.tracing`, which imports this module when one of them is first used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from opentelemetry import trace as _otel

from . import runtime as _setup
from .context import model, request_id, run, session, tags, user, wrap
from .decorator import trace
from .destinations import make_spool_settings as _keeping
from .export.flush_result import FlushResult
from .feedback_spans import expectation, feedback
from .manual import span
from .operations.content import Redact
from .settings.keep_rule import Keep
from .settings.resolution import resolve_config as _resolve
from .spending import Spend, on_cost, spend

if TYPE_CHECKING:
    from .diagnosis import Diagnosis
    from .export.spool.dead_letters import DeadLetter
    from .export.spool.drain import DrainResult

__all__ = [
    "FlushResult",
    "Keep",
    "Spend",
    "configure",
    "current_trace_id",
    "dead",
    "doctor",
    "drain",
    "expectation",
    "feedback",
    "flush",
    "model",
    "on_cost",
    "request_id",
    "run",
    "session",
    "shutdown",
    "span",
    "spend",
    "tags",
    "trace",
    "trace_url",
    "tracer_provider",
    "user",
    "wrap",
]


def configure(
    *,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    run: str | None = None,
    otlp_endpoint: str | None = None,
    otlp_protocol: Literal["http/protobuf", "grpc"] | None = None,
    otlp_names: Literal["openinference", "langfuse", "none"] | None = None,
    capture_content: bool | None = None,
    content_events: bool | None = None,
    agent_usage: bool | None = None,
    redact: Redact | None = None,
    max_content_bytes: int | None = None,
    sample_ratio: float | None = None,
    keep: Keep | None = None,
    durability: Literal["none", "batch", "span"] | None = None,
    spool_dir: str | os.PathLike[str] | None = None,
    spool_bytes: int | None = None,
    spool_age: float | None = None,
    partial_interval: float | None = None,
    service_name: str | None = None,
    schema_url: str | None = None,
    global_provider: bool | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Set where traces go and what they may contain. Every setting has a default and an environment variable.

    An argument overrides the policy file of the machine's administrator. The policy overrides ``MLSPAN_<NAME>``, which
    overrides OpenTelemetry's and MLflow's own variables. A setting that the policy locks overrides everything. A second
    call replaces the settings of the first, and changes nothing if they are the same; spans that were already recorded
    are still sent, in the background.

    Args:
        tracking_uri: MLflow's tracking server or database; ``"none"`` turns MLflow off. Default: what MLflow itself
            would use.
        experiment: name or id of the MLflow experiment; it is created if the name is new.
        run: id of the MLflow run that traces belong to when no run is active.
        otlp_endpoint: an OTLP receiver that gets the same spans. Default: ``OTEL_EXPORTER_OTLP_ENDPOINT``, if set.
        otlp_protocol: the protocol of that receiver. Default: ``http/protobuf``.
        otlp_names: a dialect whose names spans get beside their own when they are sent by OTLP, for receivers that read
            no others. ``"openinference"`` is Phoenix's, ``"langfuse"`` Langfuse's. Default: chosen by the
            receiver's address, for Langfuse and Arize; ``"none"`` adds none even there.
        capture_content: whether to record messages, tool arguments and results. Default: True.
        content_events: whether each call to a model also writes the conventions' event, with its content, to
            OpenTelemetry's logs, through the application's LoggerProvider. Default: False. Where content is off,
            there are none. Only OpenTelemetry's ``EVENT_ONLY`` keeps content off spans and yet gives events.
        agent_usage: whether agents' spans also have the tokens of the calls below them. Default: False, as many
            receivers would count them twice; MLflow does not.
        redact: a function from text to text, or regular expressions whose matches become ``[redacted]``. It is applied
            to all content and exceptions, and, before anything is stored, to all other text, including the spans of
            other libraries.
        max_content_bytes: the most bytes of content in one attribute (1 MiB). Longer content is cut and marked as cut.
        sample_ratio: the share of traces to record, from 0 to 1, chosen by trace id.
        keep: which traces to keep once they have ended: failed, slow and costly ones whole, and a share of the rest.
            Default: all. It applies to the traces that ``sample_ratio`` has left, for MLflow and ``otlp_endpoint``.
        durability: how much a killed process may lose. ``"batch"`` (the default): what ended in the last second or so.
            ``"span"``: nothing that has ended. ``"none"``: all that was not sent yet; nothing is written to disk.
        spool_dir: the folder in which spans wait to be sent. Default: ``$XDG_STATE_HOME/mlspan/spool``, which is
            ``~/.local/state/mlspan/spool``.
        spool_bytes: the most bytes on disk for the same destinations (512 MiB). Spans beyond that are dropped and
            counted.
        spool_age: seconds after which a span that was not delivered is dropped and counted (7 days).
        partial_interval: seconds after which MLflow gets what has ended of a trace whose root is still open, again and
            again (None: it gets a trace once its root has ended). Has no effect with ``sample_ratio`` or ``keep``.
        service_name: ``service.name`` of the spans, if the application has set no TracerProvider of its own.
        schema_url: the schema URL of the spans' scope. Default: none, as the names follow no single version.
        global_provider: whether mlspan's own TracerProvider becomes the global one if there is none, so that libraries
            that trace themselves are recorded. Default: False. It stays the global one: one that the application sets
            later is refused by OpenTelemetry, with a line in the log.
        tags: tags of every trace.

    Raises:
        ValueError: an argument has a value that its setting does not take.
    """
    _setup.start_runtime(_setup.resolve_settings(locals()))


def doctor() -> Diagnosis:
    """Return a report on this process: who makes its spans, where they go, what waits, and what is on.

    Nothing is sent, imported or turned on. ``print(tracing.doctor())`` shows the report; it is true if there is no
    problem. The command ``mlspan doctor`` also tries the destinations, and lists what ended programs have left on disk.
    """
    from .diagnosis import diagnose_process

    return diagnose_process()


def flush(timeout: float = 30.0) -> FlushResult:
    """Wait until all ended spans are stored by every backend, at most *timeout* seconds.

    Returns:
        What has become of this process's spans since the flush before, for each destination: how many are stored, kept
        (where, why, since when), set aside and dropped (why). It is true only if all are stored.
    """
    now = _setup.get_runtime()
    return FlushResult() if now is None else now.flush(timeout)


def shutdown(timeout: float = 30.0) -> FlushResult:
    """End abandoned streams, :func:`flush`, and stop recording until the next call of configure or autolog."""
    return _setup.stop_runtime(timeout)


def drain(
    *,
    spool_dir: str | os.PathLike[str] | None = None,
    tracking_uri: str | None = None,
    timeout: float = 0.0,
    progress: Callable[[DrainResult], object] | None = None,
) -> DrainResult:
    """Send the spans that ended processes have left on disk, for example after an outage or from a periodic job.

    No ``configure`` is needed: each spool says where its spans go. The spool of a process that is still running is left
    to that process. Credentials are never stored on disk; they come from the environment.

    Args:
        spool_dir: as in :func:`configure`.
        tracking_uri: send the traces there instead of to their original destination.
        timeout: seconds during which an unavailable backend is retried; 0 tries each backend once.
        progress: called with the counts so far after each batch.

    Returns:
        The counts, and what stays in the folder and why.
    """
    return _setup.drain_spools(_resolve({"spool_dir": spool_dir}), tracking_uri, timeout, progress)


def tracer_provider() -> _otel.TracerProvider:
    """Return the TracerProvider whose spans mlspan sends, to be given to a library that takes one.

    It is the application's if it has set one, else mlspan's own; after a shutdown it is one that records nothing.
    """
    now = _setup.get_runtime()
    return _otel.NoOpTracerProvider() if now is None else now.get_provider()


def dead(*, spool_dir: str | os.PathLike[str] | None = None) -> list[DeadLetter]:
    """Return the spans that were set aside because no backend accepts them, each with its reason, oldest first."""
    from .export.spool.dead_letters import read_dead_letters

    return read_dead_letters(_keeping(_resolve({"spool_dir": spool_dir})))


def current_trace_id() -> str | None:
    """Return the id of the caller's trace, 32 hexadecimal digits, or None outside of any trace."""
    context = _otel.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def trace_url(trace_id: str | None = None) -> str | None:
    """Return the address of a trace in MLflow's viewer. Default: the current trace.

    This may ask the tracking server for the experiment. Return None outside of any trace, or if MLflow is not in use.
    """
    trace_id, now = trace_id or current_trace_id(), _setup.get_runtime()
    return None if trace_id is None or now is None else now.page_urls.find_trace_url(trace_id)
