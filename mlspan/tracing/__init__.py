"""Where spans go, what they may say, and spans of your own.

The functions here are the public surface; the modules beside it hold what they are made of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from opentelemetry import trace as _otel

from . import config as _config
from . import setup as _setup
from .assess import expectation, feedback
from .content import Redact
from .context import model, request_id, run, session, tags, user, wrap
from .decorate import trace
from .destinations import keeping as _keeping
from .keep import Keep
from .manual import span

if TYPE_CHECKING:
    from .export.dead import Dead
    from .export.drain import Drained

__all__ = [
    "Keep",
    "configure",
    "current_trace_id",
    "dead",
    "drain",
    "expectation",
    "feedback",
    "flush",
    "model",
    "request_id",
    "run",
    "session",
    "shutdown",
    "span",
    "tags",
    "trace",
    "trace_url",
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
    capture_content: bool | None = None,
    redact: Redact | None = None,
    max_content_bytes: int | None = None,
    sample_ratio: float | None = None,
    keep: Keep | None = None,
    durability: Literal["none", "batch", "span"] | None = None,
    spool_dir: str | os.PathLike[str] | None = None,
    spool_bytes: int | None = None,
    spool_age: float | None = None,
    service_name: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Set where traces go and what they may say. Optional: each setting has an environment variable and a default.

    An argument counts over the policy of whoever runs the machine, that over ``MLSPAN_<NAME>``, that over
    OpenTelemetry's and MLflow's own variables; what the policy locks counts over all. A second call replaces the
    first, whose spans are sent.

    Args:
        tracking_uri: MLflow's tracking server or database; ``"none"`` for none. Default: what MLflow itself would use.
        experiment: name or id of the MLflow experiment; a name that is new is created.
        run: id of an MLflow run that traces belong to when none is active.
        otlp_endpoint: an OTLP receiver to send the same spans to. Default: ``OTEL_EXPORTER_OTLP_ENDPOINT``, if set.
        otlp_protocol: how to speak to it; ``http/protobuf`` if nothing is said.
        capture_content: whether messages, tool arguments and results are recorded; True if nothing is said.
        redact: a function from text to text, or regular expressions whose matches become ``[redacted]``. It is applied
            to all content, to exceptions, and before anything is stored to all other text, other libraries' spans too.
        max_content_bytes: the most that one attribute may hold of content (1 MiB); what is longer is cut, and says so.
        sample_ratio: the share of traces to keep, from 0 to 1, chosen by trace id.
        keep: which traces to keep once they have ended: those that failed, slow and costly ones whole, of the rest a
            share. Default: all. It is applied to what ``sample_ratio`` has left, before MLflow and ``otlp_endpoint``.
        durability: how much a killed process may lose: ``"batch"`` (the default), what ended in the last second or so;
            ``"span"``, nothing that has ended; ``"none"``, all that was not yet sent: nothing is written to disk.
        spool_dir: the folder in which spans wait to be sent. Default: ``$XDG_STATE_HOME/mlspan/spool``, which is
            ``~/.local/state/mlspan/spool``.
        spool_bytes: the most that the folder may hold (512 MiB); spans that come on top are dropped and counted.
        spool_age: seconds after which a span that nobody has taken is dropped and counted (7 days).
        service_name: ``service.name`` of the spans, where the application has set no TracerProvider of its own.
        tags: tags of every trace.

    Raises:
        ValueError: a value is not one of those above.
    """
    _setup.start(_config.resolve(locals()))


def flush(timeout: float = 30.0) -> bool:
    """Wait until all that has ended is stored, at most *timeout* seconds; False if it is not."""
    now = _setup.runtime()
    return now is None or now.flush(timeout)


def shutdown(timeout: float = 30.0) -> bool:
    """End abandoned streams, :func:`flush`, and record no more until somebody calls configure or autolog."""
    return _setup.stop(timeout)


def drain(
    *,
    spool_dir: str | os.PathLike[str] | None = None,
    tracking_uri: str | None = None,
    timeout: float = 0.0,
    progress: Callable[[Drained], object] | None = None,
) -> Drained:
    """Send what processes that are gone have left on disk: after an outage, or from a job that runs now and then.

    Needs no ``configure``: each spool says where its spans go. What a process that lives has waiting is its own to
    send. Credentials are never kept there: they come from the environment, as always.

    Args:
        spool_dir: as in :func:`configure`.
        tracking_uri: send traces there instead of where they were meant to go.
        timeout: seconds in which a backend that is away is asked again; 0: each is asked once.
        progress: called with the counts so far after each batch.

    Returns:
        The counts, and what stays in the folder and why.
    """
    return _setup.drain(_config.resolve({"spool_dir": spool_dir}), tracking_uri, timeout, progress)


def dead(*, spool_dir: str | os.PathLike[str] | None = None) -> list[Dead]:
    """What was set aside as no backend takes it, each with its reason; the oldest first."""
    from .export.dead import read

    return read(_keeping(_config.resolve({"spool_dir": spool_dir})))


def current_trace_id() -> str | None:
    """The id of the trace that the caller is in, 32 hexadecimal digits; None outside of any."""
    context = _otel.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def trace_url(trace_id: str | None = None) -> str | None:
    """The address of a trace in MLflow's viewer: the current trace if no id is given.

    May ask the tracking server for the experiment. None outside of any trace, or where no MLflow is in use.
    """
    trace_id, now = trace_id or current_trace_id(), _setup.runtime()
    return None if trace_id is None or now is None else now.trace_url(trace_id)
