"""Settings: argument over ``MLSPAN_*`` over OpenTelemetry's own, and what is wrong is said in one line."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from mlspan import tracing
from mlspan.cli.places import resolve_settings
from mlspan.tracing.settings.config import Config
from mlspan.tracing.settings.resolution import resolve_config


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
    assert getattr(resolve_config(arguments, environ), name) == value


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
    assert resolve_config({}, {name: text}) == Config()
    (line,) = caplog.messages
    assert line.startswith(f"mlspan: {name}={text!r} is ignored: ")


def _read_settings_table() -> dict[str, list[str]]:
    """Return the variables that the page of settings names, by setting."""
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = (line.split(" | ") for line in page.splitlines() if re.match(r"\| `\w+` \| `\w+` ?(<br>|\|)", line))
    return {row[0].strip("| `"): re.findall(r"`(\w+)`", row[1]) for row in rows}


def test_signature_page_and_doctor_follow_the_dataclass() -> None:
    """Whoever adds a setting to Config learns where else it has to be: nothing can differ unseen."""
    settings = {setting.name: setting for setting in fields(Config)}
    parameters = inspect.signature(tracing.configure).parameters
    assert list(parameters) == list(settings)
    assert {(one.kind, one.default) for one in parameters.values()} == {(inspect.Parameter.KEYWORD_ONLY, None)}
    types, takes = get_type_hints(Config), get_type_hints(tracing.configure)
    assert {name: takes[name] for name in settings} == {name: types[name] | None for name in settings}
    described = re.findall(
        r"^ {4}(\w+):", (inspect.getdoc(tracing.configure) or "").partition("Raises:")[0], re.MULTILINE
    )
    assert described == list(settings)
    table = _read_settings_table()
    assert list(table) == list(settings)
    own = {name: list(setting.metadata["environ"]) for name, setting in settings.items()}
    assert {name: variables[: len(own[name])] for name, variables in table.items()} == own
    shown, _ = resolve_settings({})
    assert list(shown) == list(settings)
