"""The Resource of our own provider's spans: the attributes that describe the program."""

from __future__ import annotations

import os
import sys
import uuid

from opentelemetry.sdk.resources import (
    PROCESS_PARENT_PID,
    PROCESS_PID,
    SERVICE_INSTANCE_ID,
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


def describe_child(resource: Resource) -> Resource:
    """Return *resource* as that of this process, a forked child. No detector is asked, as the SDK asks on threads."""
    known = resource.attributes
    own: dict[str, str | int] = {}
    if PROCESS_PID in known:
        own[PROCESS_PID] = os.getpid()
    if PROCESS_PARENT_PID in known:
        own[PROCESS_PARENT_PID] = os.getppid()
    if SERVICE_INSTANCE_ID in known and SERVICE_INSTANCE_ID not in OTELResourceDetector().detect().attributes:
        own[SERVICE_INSTANCE_ID] = str(uuid.uuid4())
    return resource.merge(Resource(own))
