"""Configuration: one frozen Config, resolved from arguments, policy and environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..._guard import log
from ..._shape import is_a
from ..operations.content import Redact, redactor
from .keep_rule import Keep


def _flag(text: str) -> bool:
    """Parse a boolean. Raise ValueError if *text* is none of true, false, yes, no, 1 and 0."""
    try:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.strip().lower()]
    except KeyError:
        msg = "takes true or false"
        raise ValueError(msg) from None


def _mapping(text: str) -> dict[str, str]:
    """Parse ``a=1,b=2``, the format of OTEL_RESOURCE_ATTRIBUTES. Raise ValueError for anything else."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if any(not separator for _, separator, _ in pairs):
        msg = "takes key=value pairs with commas between them"
        raise ValueError(msg)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _patterns(text: str) -> list[str]:
    """Parse a JSON list of regular expressions, or a single expression. Raise ValueError for other JSON."""
    found = json.loads(text) if text.lstrip().startswith("[") else [text]
    if not all(isinstance(pattern, str) for pattern in found):
        msg = "takes a regular expression, or a JSON list of them"
        raise ValueError(msg)
    return list(found)


def _genai_capture(text: str) -> bool:
    """Parse OpenTelemetry's own switch. We write no events, so a mode that asks for events only captures nothing."""
    mode = text.strip().upper()
    if mode not in {"NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT", "TRUE", "FALSE"}:
        log.warning("mlspan: capture mode %r is unknown: no content is captured", text)
    return mode in {"SPAN_ONLY", "SPAN_AND_EVENT", "TRUE"}


def setting(default: Any, **environ: Callable[[str], Any]) -> Any:
    """Return a dataclass field with its environment variables; the first variable that is set is used.

    Args:
        default: the value if nothing is set.
        environ: a parser for each variable. It raises ValueError with a text that says what the variable takes.
    """
    return field(default=default, metadata={"environ": environ})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of :func:`mlspan.tracing.configure`, which describes each. Raises ValueError for a bad value."""

    tracking_uri: str | None = setting(None, MLSPAN_TRACKING_URI=str)
    experiment: str | None = setting(None, MLSPAN_EXPERIMENT=str)
    run: str | None = setting(None, MLSPAN_RUN=str)
    otlp_endpoint: str | None = setting(None, MLSPAN_OTLP_ENDPOINT=str)
    otlp_protocol: str | None = setting(None, MLSPAN_OTLP_PROTOCOL=str)
    capture_content: bool = setting(
        True, MLSPAN_CAPTURE_CONTENT=_flag, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=_genai_capture
    )
    redact: Redact | None = setting(None, MLSPAN_REDACT=_patterns)
    max_content_bytes: int = setting(1024 * 1024, MLSPAN_MAX_CONTENT_BYTES=int)
    sample_ratio: float = setting(1.0, MLSPAN_SAMPLE_RATIO=float)
    keep: Keep | None = setting(None, MLSPAN_KEEP=Keep.parse)
    durability: str = setting("batch", MLSPAN_DURABILITY=str)
    spool_dir: str | os.PathLike[str] | None = setting(None, MLSPAN_SPOOL_DIR=str)
    spool_bytes: int = setting(512 * 1024 * 1024, MLSPAN_SPOOL_BYTES=int)
    spool_age: float = setting(7 * 24 * 3600.0, MLSPAN_SPOOL_AGE=float)
    service_name: str | None = setting(None, MLSPAN_SERVICE_NAME=str)
    tags: Mapping[str, str] | None = setting(None, MLSPAN_TAGS=_mapping)

    def __post_init__(self) -> None:
        _require(self.otlp_protocol in {None, "http/protobuf", "grpc"}, 'otlp_protocol takes "http/protobuf" or "grpc"')
        _require(
            is_a(self.max_content_bytes, int) and self.max_content_bytes >= 1024, "max_content_bytes: 1024 or more"
        )
        _require(is_a(self.sample_ratio, (int, float)) and 0 <= self.sample_ratio <= 1, "sample_ratio: from 0 to 1")
        _require(is_a(self.keep, (Keep, type(None))), "keep takes a tracing.Keep")
        _require(self.durability in {"none", "batch", "span"}, 'durability takes "none", "batch" or "span"')
        _require(is_a(self.spool_bytes, int) and self.spool_bytes >= 1024 * 1024, "spool_bytes: 1 MiB or more")
        _require(is_a(self.spool_age, (int, float)) and self.spool_age > 0, "spool_age: seconds, more than 0")
        redactor(self.redact)


def _require(holds: bool, what: str) -> None:
    """Raise ValueError with the message *what* unless *holds* is true."""
    if not holds:
        raise ValueError(what)


def check(settings: Mapping[str, Any]) -> None:
    """Raise ValueError if *settings*, by name, has an unknown name or a value that its setting does not take."""
    known = {setting_.name for setting_ in fields(Config)}
    if unknown := settings.keys() - known:
        raise ValueError(f"no such setting: {', '.join(sorted(unknown))}")
    Config(**settings)


def _checked(name: str, value: Any) -> Any:
    """Return *value*. Raise ValueError if the setting *name* does not take it."""
    Config(**{name: value})
    return value
