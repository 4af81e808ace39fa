"""The report of ``tracing.doctor()`` on the running process: what is on, where spans go, and what waits.

``mlspan doctor`` asks the same of an environment, without the application.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from opentelemetry import trace

from .._integration_report import read_integration_report
from .._private_names import list_missing_names
from . import runtime
from .configured_runtime import Runtime
from .export.otlp.environment import read_variable
from .export.shown_addresses import hide_user_info
from .operations.suppression import is_suppressed


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A report on this process, as lines of text; ``str()`` puts them together. True if there is no problem."""

    provider: str  # whose TracerProvider makes the spans
    destinations: tuple[str, ...]  # such as "mlflow http://127.0.0.1:5000", without credentials
    unsent: int  # spans of this process that wait to be sent; one that has just ended is counted within a second
    integrations: tuple[str, ...]  # each that is on, and its state
    other_tracers: tuple[str, ...]  # instrumentations beside ours that are on
    problems: tuple[str, ...]  # each with what to do

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        sections = {
            "Spans are made by": (self.provider,),
            "Sent to": self.destinations or ("nowhere",),
            "Waiting to be sent": (str(self.unsent),),
            "Integrations": self.integrations or ("none is on",),
            "Other tracers": self.other_tracers,
            "Problems": self.problems or ("none",),
        }
        return "\n".join(
            f"{title}: {lines[0]}" if len(lines) == 1 else "\n".join([f"{title}:", *(f"  - {line}" for line in lines)])
            for title, lines in sections.items()
            if lines
        )


def diagnose_process() -> Diagnosis:
    """Return the report on this process; see :func:`mlspan.tracing.doctor`."""
    now = runtime.peek_runtime()
    report = read_integration_report()
    destinations = () if now is None else tuple(_list_destinations(now))
    problems = [
        *_find_recording_problems(now, has_destinations=bool(destinations)),
        *report.problems,
        *list_missing_names(),
    ]
    return Diagnosis(
        provider="nobody: nothing is recorded" if now is None else _describe_provider(now),
        destinations=destinations,
        unsent=0 if now is None else now.count_waiting(),
        integrations=report.integrations,
        other_tracers=report.other_tracers,
        problems=tuple(problems),
    )


def _find_recording_problems(now: Runtime | None, *, has_destinations: bool) -> Iterator[str]:
    if now is None:
        yield "nothing is recorded: call configure or autolog first, or again after a shutdown"
        return
    if not has_destinations:
        yield "spans go nowhere: set MLFLOW_TRACKING_URI or OTEL_EXPORTER_OTLP_ENDPOINT, or the arguments of configure"
    if now.keeps_in_memory:
        yield (
            "unsent spans are in memory only, as their folder cannot be used (a warning said why): "
            "set MLSPAN_SPOOL_DIR to a folder that is yours"
        )
    if is_suppressed():
        yield "the caller's context suppresses instrumentation: calls made from here are not recorded"
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield "OTEL_SDK_DISABLED=true turns all tracing off: unset it"


def _describe_provider(now: Runtime) -> str:
    provider = now.get_provider()
    if now.owns_provider:
        is_global = provider is trace.get_tracer_provider()
        return "mlspan's own TracerProvider" + (", which is the global one" if is_global else "")
    return f"the application's TracerProvider ({type(provider).__module__}.{type(provider).__name__})"


def _list_destinations(now: Runtime) -> Iterator[str]:
    """Yield each destination of the provider in use, without credentials."""
    uri = now.mlflow_uri
    if uri is not None:
        yield f"mlflow {hide_user_info(uri)}"
    if now.sends_otlp:
        yield f"otlp {hide_user_info(now.config.otlp_endpoint or read_variable('ENDPOINT') or '')}"
