"""Settings: argument over ``MLSPAN_*`` over OpenTelemetry's own, and what is wrong is said in one line."""

from __future__ import annotations

from typing import Any

import pytest

from mlspan import tracing
from mlspan.tracing.settings.config import Config
from mlspan.tracing.settings.resolution import resolve


@pytest.mark.parametrize(
    ("arguments", "environ", "name", "value"),
    [
        ({}, {}, "capture_content", True),
        ({}, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT"}, "capture_content", False),
        ({}, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_and_event"}, "capture_content", True),
        ({}, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "EVENT_ONLY"}, "capture_content", False),
        (
            {},
            {"MLSPAN_CAPTURE_CONTENT": "1", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT"},
            "capture_content",
            True,
        ),
        ({"capture_content": False}, {"MLSPAN_CAPTURE_CONTENT": "true"}, "capture_content", False),
        ({}, {"MLSPAN_MAX_CONTENT_BYTES": "4096"}, "max_content_bytes", 4096),
        ({"max_content_bytes": 2048}, {"MLSPAN_MAX_CONTENT_BYTES": "4096"}, "max_content_bytes", 2048),
        ({}, {"MLSPAN_TAGS": "env=prod, team = a "}, "tags", {"env": "prod", "team": "a"}),
        ({}, {"MLSPAN_REDACT": r'["sk-\\w+", "b"]'}, "redact", [r"sk-\w+", "b"]),
        ({}, {"MLSPAN_REDACT": r"sk-\w+"}, "redact", [r"sk-\w+"]),
        ({}, {"MLSPAN_SAMPLE_RATIO": "0.25"}, "sample_ratio", 0.25),
    ],
)
def test_which_value_counts(arguments: Any, environ: Any, name: str, value: Any) -> None:
    """Argument, then our variable, then OpenTelemetry's, then the default."""
    assert getattr(resolve(arguments, environ), name) == value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"otlp_protocol": "http"}, 'otlp_protocol takes "http/protobuf" or "grpc"'),
        ({"max_content_bytes": 3}, "max_content_bytes: 1024 or more"),
        ({"sample_ratio": 2}, "sample_ratio: from 0 to 1"),
        ({"sample_ratio": True}, "sample_ratio: from 0 to 1"),
        ({"durability": "safe"}, 'durability takes "none", "batch" or "span"'),
        ({"spool_bytes": 1000}, "spool_bytes: 1 MiB or more"),
        ({"spool_age": 0}, "spool_age: seconds, more than 0"),
    ],
)
def test_a_bad_argument_is_refused_at_once(arguments: Any, said: str) -> None:
    """``configure`` itself says what a setting takes."""
    with pytest.raises(ValueError, match="^" + said.replace("/", ".")):
        tracing.configure(**arguments)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MLSPAN_SAMPLE_RATIO", "lots"),
        ("MLSPAN_SAMPLE_RATIO", "7"),
        ("MLSPAN_CAPTURE_CONTENT", "perhaps"),
        ("MLSPAN_TAGS", "env"),
        ("MLSPAN_REDACT", "("),
        ("MLSPAN_OTLP_PROTOCOL", "json"),
    ],
)
def test_a_bad_variable_is_one_line_and_ignored(name: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """A variable that cannot be read is as if it were not set, and one line says so."""
    assert resolve({}, {name: text}) == Config()
    (line,) = caplog.messages
    assert line.startswith(f"mlspan: {name}={text!r} is ignored: ")
