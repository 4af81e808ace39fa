"""Configuration: one frozen Config, resolved from arguments, policy and environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from ..._guard import log
from ..._shape import is_a
from ..operations.content import Redact, make_redactor
from .keep_rule import Keep

GENAI_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_EVENT_ONLY: Final = "EVENT_ONLY"


def _parse_flag(text: str) -> bool:
    """Parse a boolean. Raise ValueError if *text* is none of true, false, yes, no, 1 and 0."""
    try:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.strip().lower()]
    except KeyError:
        msg = "takes true or false"
        raise ValueError(msg) from None


def _parse_mapping(text: str) -> dict[str, str]:
    """Parse ``a=1,b=2``, the format of OTEL_RESOURCE_ATTRIBUTES. Raise ValueError for anything else."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if any(not separator for _, separator, _ in pairs):
        msg = "takes key=value pairs with commas between them"
        raise ValueError(msg)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _parse_patterns(text: str) -> list[str]:
    """Parse a JSON list of regular expressions, or a single expression. Raise ValueError for other JSON."""
    found = json.loads(text) if text.lstrip().startswith("[") else [text]
    if not all(isinstance(pattern, str) for pattern in found):
        msg = "takes a regular expression, or a JSON list of them"
        raise ValueError(msg)
    return list(found)


def _parse_genai_capture(text: str) -> bool:
    """Parse OpenTelemetry's own switch: whether spans get content. For events see :func:`_parse_genai_events`."""
    mode = text.strip().upper()
    if mode not in {"NO_CONTENT", "SPAN_ONLY", _EVENT_ONLY, "SPAN_AND_EVENT", "TRUE", "FALSE"}:
        log.warning("mlspan: capture mode %r is unknown: no content is captured", text)
    return mode in {"SPAN_ONLY", "SPAN_AND_EVENT", "TRUE"}


def _parse_genai_events(text: str) -> bool:
    """Parse the same switch: whether there are events."""
    return text.strip().upper() in {_EVENT_ONLY, "SPAN_AND_EVENT"}


def asks_for_events_alone(text: str | None) -> bool:
    """Return whether *text*, the same switch, keeps content off the spans and yet wants it in events."""
    return text is not None and text.strip().upper() == _EVENT_ONLY


def define_setting(default: Any, **environ: Callable[[str], object]) -> Any:
    """Return a dataclass field with its environment variables; the first variable that is set is used.

    Args:
        default: the value if nothing is set.
        environ: a parser for each variable. It raises ValueError with a text that says what the variable takes.
    """
    return field(default=default, metadata={"environ": environ})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings: the one place that says which there are, with their types, defaults and variables.

    The arguments of :func:`mlspan.tracing.configure`, which describes each, ``docs/settings.md`` and ``mlspan doctor``
    follow it, and ``tests/test_config.py`` fails where one does not. Raises ValueError for a bad value.
    """

    tracking_uri: str | None = define_setting(None, MLSPAN_TRACKING_URI=str)
    experiment: str | None = define_setting(None, MLSPAN_EXPERIMENT=str)
    run: str | None = define_setting(None, MLSPAN_RUN=str)
    otlp_endpoint: str | None = define_setting(None, MLSPAN_OTLP_ENDPOINT=str)
    otlp_protocol: Literal["http/protobuf", "grpc"] | None = define_setting(None, MLSPAN_OTLP_PROTOCOL=str)
    otlp_names: Literal["openinference", "langfuse", "none"] | None = define_setting(None, MLSPAN_OTLP_NAMES=str)
    capture_content: bool = define_setting(
        True,
        MLSPAN_CAPTURE_CONTENT=_parse_flag,
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=_parse_genai_capture,
    )
    content_events: bool = define_setting(
        False,
        MLSPAN_CONTENT_EVENTS=_parse_flag,
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=_parse_genai_events,
    )
    agent_usage: bool = define_setting(False, MLSPAN_AGENT_USAGE=_parse_flag)
    redact: Redact | None = define_setting(None, MLSPAN_REDACT=_parse_patterns)
    max_content_bytes: int = define_setting(1024 * 1024, MLSPAN_MAX_CONTENT_BYTES=int)
    sample_ratio: float = define_setting(1.0, MLSPAN_SAMPLE_RATIO=float)
    keep: Keep | None = define_setting(None, MLSPAN_KEEP=Keep.parse)
    durability: Literal["none", "batch", "span"] = define_setting("batch", MLSPAN_DURABILITY=str)
    spool_dir: str | os.PathLike[str] | None = define_setting(None, MLSPAN_SPOOL_DIR=str)
    spool_bytes: int = define_setting(512 * 1024 * 1024, MLSPAN_SPOOL_BYTES=int)
    spool_age: float = define_setting(7 * 24 * 3600.0, MLSPAN_SPOOL_AGE=float)
    partial_interval: float | None = define_setting(None, MLSPAN_PARTIAL_INTERVAL=float)
    service_name: str | None = define_setting(None, MLSPAN_SERVICE_NAME=str)
    schema_url: str | None = define_setting(None, MLSPAN_SCHEMA_URL=str)
    global_provider: bool = define_setting(False, MLSPAN_GLOBAL_PROVIDER=_parse_flag)
    tags: Mapping[str, str] | None = define_setting(None, MLSPAN_TAGS=_parse_mapping)

    def __post_init__(self) -> None:
        _raise_unless(
            self.otlp_protocol in {None, "http/protobuf", "grpc"}, 'otlp_protocol takes "http/protobuf" or "grpc"'
        )
        _raise_unless(
            self.otlp_names in {None, "openinference", "langfuse", "none"},
            'otlp_names takes "openinference", "langfuse" or "none"',
        )
        _raise_unless(
            is_a(self.max_content_bytes, int) and self.max_content_bytes >= 1024, "max_content_bytes: 1024 or more"
        )
        _raise_unless(
            is_a(self.sample_ratio, (int, float)) and 0 <= self.sample_ratio <= 1, "sample_ratio: from 0 to 1"
        )
        _raise_unless(is_a(self.global_provider, bool), "global_provider takes true or false")
        _raise_unless(is_a(self.keep, (Keep, type(None))), "keep takes a tracing.Keep")
        _raise_unless(self.durability in {"none", "batch", "span"}, 'durability takes "none", "batch" or "span"')
        _raise_unless(is_a(self.spool_bytes, int) and self.spool_bytes >= 1024 * 1024, "spool_bytes: 1 MiB or more")
        _raise_unless(is_a(self.spool_age, (int, float)) and self.spool_age > 0, "spool_age: seconds, more than 0")
        interval = self.partial_interval
        _raise_unless(
            interval is None or (is_a(interval, (int, float)) and interval >= 1), "partial_interval: seconds, 1 or more"
        )
        make_redactor(self.redact)


def _raise_unless(holds: bool, what: str) -> None:
    """Raise ValueError with the message *what* unless *holds* is true."""
    if not holds:
        raise ValueError(what)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ValueError if *settings*, by name, has an unknown name or a value that its setting does not take."""
    known = {setting_.name for setting_ in fields(Config)}
    if unknown := settings.keys() - known:
        raise ValueError(f"no such setting: {', '.join(sorted(unknown))}")
    Config(**settings)


def _validate_setting(name: str, value: Any) -> object:
    """Return *value*. Raise ValueError if the setting *name* does not take it."""
    Config(**{name: value})
    return value
