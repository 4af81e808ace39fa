"""What may leave the process: redacted everywhere, cut to size, always valid JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mlspan import tracing
from mlspan.testing import Spans, content
from mlspan.tracing import runtime
from mlspan.tracing.export.redaction import SpanRedactor
from mlspan.tracing.operations.content import ContentPolicy, make_redactor, to_json
from mlspan.tracing.otel.fast_span import SpanStarter

SECRET = "sk-canary-123"


@pytest.fixture(autouse=True)
def _own_settings(tracing_off: None) -> None: ...


def _everywhere() -> None:
    """Puts the secret in every place that content has."""
    with tracing.span("t", kind="tool", input={SECRET: [SECRET, {"deep": f"a {SECRET} b"}]}) as tool:
        tool.output = SECRET
    with tracing.span("m", kind="chat", input=f"my key is {SECRET}") as chat:
        chat.record.provider, chat.output = "openai", SECRET
    with pytest.raises(RuntimeError), tracing.span("e"):
        raise RuntimeError(SECRET)


@pytest.mark.parametrize(
    "redact", [[r"sk-canary-\d+"], [re.compile("sk-canary-[0-9]+")], lambda text: text.replace(SECRET, "[redacted]")]
)
def test_redaction_reaches_everything(spans: Spans, redact: Any) -> None:
    """Patterns or a function: the secret is in no attribute, event or status of any span."""
    tracing.configure(redact=redact)
    _everywhere()
    exported = "".join(span.to_json() for span in spans.all)
    assert SECRET not in exported
    assert content(spans.all[0], "gen_ai.tool.call.arguments") == {
        "[redacted]": ["[redacted]", {"deep": "a [redacted] b"}]
    }
    assert spans.all[2].status.description == "[redacted]"


@pytest.mark.parametrize("redact", [None, [r"sk-[\w-]+"]])
def test_keys_are_masked_but_in_content(spans: Spans, redact: Any) -> None:
    """As docs/privacy.md says: only redact takes a key out of what was said; all else is masked without it."""
    key = "sk-proj-0123456789abcdefghijABCD"
    tracing.configure(redact=redact)
    with pytest.raises(RuntimeError), tracing.span(f"t {key}", kind="tool", input={"q": key}) as tool:
        tool.output = key
        trace.get_current_span().set_attribute("mine", key)
        raise RuntimeError(key)
    exported = SpanRedactor(make_redactor(redact))(spans.one())
    attributes = dict(exported.attributes or {})
    said = [attributes.pop(name) for name in ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result")]
    assert said == ([f'{{"q":"{key}"}}', key] if redact is None else ['{"q":"[redacted]"}', "[redacted]"])
    rest = [
        exported.name,
        attributes,
        exported.status.description,
        [dict(one.attributes or {}) for one in exported.events],
    ]
    assert key not in repr(rest)
    assert attributes["mine"] == exported.status.description == "[redacted]"


def test_a_redact_that_fails_lets_nothing_out(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """A redact function that raises costs the text that it was given, and one line in the log."""
    tracing.configure(redact=lambda text: 1 / 0)
    _everywhere()
    assert SECRET not in "".join(span.to_json() for span in spans.all)
    assert [record.getMessage() for record in caplog.records] == [
        "mlspan: redact raised ZeroDivisionError; what it was given is not recorded"
    ]


def test_long_content_is_cut_and_says_so(spans: Spans) -> None:
    """Long text is cut at its end, and what is short beside it stays whole; the caller's object is untouched."""
    tracing.configure(max_content_bytes=2048)
    given = {"short": "whole", "long": "ä" * 5000}
    with tracing.span("t", kind="tool", input=given):
        pass
    written = (spans.one().attributes or {})["gen_ai.tool.call.arguments"]
    assert len(written.encode()) <= 2048
    assert json.loads(written)["short"] == "whole"
    assert json.loads(written)["long"].endswith("… [cut: 10000 bytes in all]")
    assert given["long"] == "ä" * 5000


def test_a_large_picture_loses_its_bytes_not_its_message() -> None:
    """Half a picture is no picture: the blob stays, says how large it was, and the text beside it is whole."""
    blob = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "A" * 20_000_000}
    message = {"role": "user", "parts": [{"type": "text", "content": "What is this?"}, blob]}
    policy = ContentPolicy(capture=True, redact=None, limit=1024 * 1024)
    assert json.loads(policy.render_json([message])) == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "What is this?"},
                {**blob, "content": "", "cut": "20000000 bytes of base64"},
            ],
        }
    ]


def test_five_thousand_messages_keep_their_ends() -> None:
    """Too many messages for the limit: the first and the last stay, as valid JSON."""
    policy = ContentPolicy(capture=True, redact=None, limit=4096)
    messages = [{"role": "user", "parts": [{"type": "text", "content": f"message {n}"}]} for n in range(5000)]
    kept = json.loads(policy.render_json(messages))
    assert (kept[0], kept[-1]) == (messages[0], messages[-1])
    assert len(policy.render_json(messages)) <= 4096


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": Point(1)}, '{"a":{"x":1}}'),
        ({1: {2}}, '{"1":[2]}'),
        ([b"abc", object], '["[3 bytes]","<object class>"]'),
        ([2**70, 2**60], '["1180591620717411303424",1152921504606846976]'),
        (["\ud800x"], '["?x"]'),
        ([float("nan")], "[null]"),
    ],
)
def test_anything_becomes_json(value: Any, written: str) -> None:
    """What JSON cannot say is said as well as it can be."""
    assert to_json(value) == written


def test_a_cycle_ends() -> None:
    """An object that contains itself says so, and one that is very deep is written as deep as it makes sense."""
    loop: list[Any] = []
    loop.append(loop)
    assert to_json(loop) == '["[contains itself]"]'
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    assert "nested too deep" in to_json(deep)


def test_core_attributes_survive_any_limit(spans: Spans, aimock: str) -> None:
    """Where the application allows six attributes a span, model, provider and operation are among them."""
    openai = pytest.importorskip("openai")
    from mlspan.integrations import openai as integration

    exporter = InMemorySpanExporter()
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=6), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    now = runtime.start_runtime(runtime.resolve_config({}))
    now._span_starter, now._followed_provider = (
        SpanStarter(provider.get_tracer("app")),
        trace.get_tracer_provider(),
    )
    integration.autolog()
    with openai.OpenAI(base_url=aimock, api_key="test") as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}], seed=1)
    (span,) = exporter.get_finished_spans()
    assert {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"} <= set(span.attributes or {})
    assert len(span.attributes or {}) == 6


@pytest.mark.parametrize("settings", [{"capture_content": False}, {"capture_content": False, "content_events": True}])
def test_an_exception_is_content(settings: dict[str, Any], spans: Spans) -> None:
    """It may quote the request or the answer: without content there are its type and its stack, in no span its text."""
    tracing.configure(**settings)
    with pytest.raises(RuntimeError), tracing.span("outer"), tracing.span("inner", kind="tool"):
        try:
            raise ValueError(f"inner {SECRET}")
        except ValueError as error:
            raise RuntimeError(f"outer {SECRET}") from error
    assert SECRET not in "".join(span.to_json() for span in spans.all)
    for span in spans.all:
        assert (span.attributes or {})["error.type"] == span.status.description == "RuntimeError"
        assert "test_an_exception_is_content" in (span.events[0].attributes or {})["exception.stacktrace"]


def test_a_bad_pattern_is_said_at_once() -> None:
    """A pattern that is no regular expression is refused by configure, in one line."""
    with pytest.raises(ValueError, match="redact takes a function or a list of regular expressions"):
        tracing.configure(redact=["("])
    assert make_redactor(None) is None
