"""Providers by which a library tells its maker how it is used; the spans of a program must not go there."""

from __future__ import annotations

from typing import Final, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan

from ..._guard import warn_once


class UsageTelemetry(NamedTuple):
    """A library that makes its provider the global one in versions before *fixed_in*, unless *switch* is set.

    If the application has set a provider first, the library's own spans, those of *scope*, are started in that one.
    """

    library: str
    distribution: str
    fixed_in: str
    switch: str
    scope: str


USAGE_TELEMETRY: Final = {  # by the name of the service in the provider's resource
    "crewAI-telemetry": UsageTelemetry(
        "CrewAI", "crewai", fixed_in="1.15.15", switch="CREWAI_DISABLE_TELEMETRY=true", scope="crewai.telemetry"
    ),
}
_SCOPES: Final = frozenset(telemetry.scope for telemetry in USAGE_TELEMETRY.values())


def is_usage_telemetry(span: ReadableSpan) -> bool:
    """Return whether *span* tells the maker of a library how it is used, and nothing of what the program does."""
    scope = span.instrumentation_scope
    return scope is not None and scope.name in _SCOPES


def find_usage_telemetry(provider: trace.TracerProvider) -> UsageTelemetry | None:
    """Return the library whose maker gets the spans of *provider*, or None for a provider of the application."""
    resource = getattr(provider, "resource", None)
    return USAGE_TELEMETRY.get(str(resource.attributes.get(SERVICE_NAME))) if isinstance(resource, Resource) else None


def warn_of_usage_telemetry(telemetry: UsageTelemetry) -> None:
    """Log once that the global TracerProvider sends what a program records to the maker of a library."""
    warn_once(
        "mlspan: %s has made its own telemetry the TracerProvider of this program, and so its maker gets the spans of "
        "other libraries; those of mlspan go through another provider. Set %s, or set your own TracerProvider first",
        telemetry.library,
        telemetry.switch,
        place=telemetry.library,
    )
