"""Resolve settings: argument, then policy, then ``MLSPAN_*``, then the variables of OpenTelemetry and MLflow.

A setting that the administrator's policy locks comes before the argument (:func:`_enforce_lock`): only a stricter
argument counts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..._guard import log, warn_once
from ..operations.content import Redact, make_redactor
from . import admin_policy as _policy
from .config import GENAI_CAPTURE, Config, _validate_setting, asks_for_events_alone


def resolve_config(arguments: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> Config:
    """Return the Config of *arguments* over the policy over *environ*; an argument that is None counts as not given.

    A bad variable is logged and ignored. A setting that the policy locks overrides everything; a caller who asks for a
    looser value gets one log line.

    Raises:
        ValueError: an argument is bad.
    """
    values: dict[str, Any] = {}
    policy = _policy.load_policy()
    for setting_ in fields(Config):
        given = arguments.get(setting_.name)
        if given is not None:
            values[setting_.name] = _validate_setting(setting_.name, given)
        if setting_.name in policy.settings:
            policy_value, file = policy.settings[setting_.name]
            if setting_.name in policy.locked:
                values[setting_.name] = _enforce_lock(setting_.name, policy_value, given, file)
            else:
                values.setdefault(setting_.name, policy_value)
        if setting_.name in values:
            continue
        for name, read in setting_.metadata["environ"].items():
            if text := environ.get(name):
                try:
                    values[setting_.name] = _validate_setting(setting_.name, read(text))
                except ValueError as error:
                    log.warning("mlspan: %s=%r is ignored: %s", name, text, error)
                break
    if values.get("capture_content") is False and not _allows_events_alone(arguments, policy, environ):
        values["content_events"] = False
    return Config(**values)


def _allows_events_alone(
    arguments: Mapping[str, object], policy: _policy.AdminPolicy, environ: Mapping[str, str]
) -> bool:
    """Return whether events may have content although spans may not.

    Only OpenTelemetry's ``EVENT_ONLY`` says so. Whatever else has turned content off has turned it off in events too.
    """
    settled = arguments.get("capture_content") is not None or "capture_content" in policy.settings
    if settled or environ.get("MLSPAN_CAPTURE_CONTENT"):
        return False
    return asks_for_events_alone(environ.get(GENAI_CAPTURE))


def _enforce_lock(name: str, locked: Any, given: Any, file: object) -> object:
    """Return the value that the policy has locked, or a stricter one that was given.

    Stricter means: less content captured, more redacted, content cut shorter.
    """
    if given is None:
        return locked
    if name == "redact":
        return _combine_redactors(locked, given)
    if name == "capture_content":
        allowed = locked and given
    else:
        allowed = min(locked, given) if name == "max_content_bytes" else locked
    if allowed != given:
        warn_once("mlspan: %s=%r is locked by the policy %s: %r does not count", name, locked, file, given, place=name)
    return allowed


def _combine_redactors(first: Redact, then: Redact) -> Redact:
    """Return both redactions, applied in this order.

    Expressions stay expressions, so that they can be sent to workers.
    """
    if not callable(first) and not callable(then):
        return [*([first] if isinstance(first, str) else first), *([then] if isinstance(then, str) else then)]
    one, other = make_redactor(first), make_redactor(then)
    return lambda text: other(one(text))  # type: ignore[misc]  # neither is None
