"""The hosts that may get this process's credentials: those that its settings or its environment name.

A spool on disk names the host that its spans are meant for. Whoever sends them has credentials for other hosts, which
that host must not get.
"""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

from .types import SinkKind

_VARIABLES: Final[dict[SinkKind, tuple[str, ...]]] = {
    "mlflow": ("MLFLOW_TRACKING_URI", "MLSPAN_TRACKING_URI"),
    "otlp": ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "MLSPAN_OTLP_ENDPOINT"),
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_Host = tuple[str, str, int | None]  # scheme, name, port
_trusted: set[tuple[SinkKind, _Host]] = set()


def trust_host(kind: SinkKind, uri: str | None) -> None:
    """Let the host of *uri*, which a setting names, have the credentials for destinations of this *kind*."""
    if uri and (host := _find_host(uri)) is not None:
        _trusted.add((kind, host))


def is_trusted(kind: SinkKind, uri: str) -> bool:
    """Return True if a setting or the environment of this process names the scheme, host and port of *uri*."""
    host = _find_host(uri)
    named = (os.environ.get(variable) for variable in _VARIABLES[kind])
    return (kind, host) in _trusted or host in {_find_host(one) for one in named if one}


def _find_host(uri: str) -> _Host | None:
    """Return scheme, host and port of *uri*; None if it has no host. A gRPC address may have no scheme."""
    try:
        parts = urlsplit(uri if "://" in uri else f"grpc://{uri}")
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    return None if not parts.hostname else (scheme, parts.hostname, port or _DEFAULT_PORTS.get(scheme))
