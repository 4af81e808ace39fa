"""The Resource of our own provider's spans: the attributes that describe the program."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # the SDK and MLflow use it, and it cannot be imported as Python ends
import os
import sys

from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME,
    TELEMETRY_SDK_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.version import __version__


def describe_program(service_name: str | None) -> Resource:
    """Return what the SDK finds out; as Python ends, when it can ask nobody, what the environment says."""
    named = {SERVICE_NAME: service_name} if service_name else {}
    try:
        return Resource.create(named)
    except RuntimeError:  # it asks on threads, and there are no new ones
        plain = {
            TELEMETRY_SDK_LANGUAGE: "python",
            TELEMETRY_SDK_NAME: "opentelemetry",
            TELEMETRY_SDK_VERSION: __version__,
            SERVICE_NAME: f"unknown_service:{os.path.basename(sys.executable)}",  # noqa: PTH119  # as the SDK has it
        }
        return Resource(plain).merge(OTELResourceDetector().detect()).merge(Resource(named))
