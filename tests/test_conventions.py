"""The checker that every span of the suite passes catches what it should; and the metrics of a real call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conventions import metric_problems, problems
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode

from mlspan import integrations, tracing

SHARED = Path(__file__).parents[2] / "shared/semconv-genai"
GOOD = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"}


def span(name: str = "chat m", kind: SpanKind = SpanKind.CLIENT, status: Any = None, **attributes: Any) -> Any:
    given = {**GOOD, **{key.replace("__", "."): value for key, value in attributes.items()}}
    made = (
        TracerProvider(shutdown_on_exit=False)
        .get_tracer("t")
        .start_span(name, kind=kind, attributes={k: v for k, v in given.items() if v is not None})
    )
    if status is not None:
        made.set_status(Status(status))
    made.end()
    return made


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (span(), []),
        (span(name="m"), ["m: its name should be 'chat m'"]),
        (span(kind=SpanKind.INTERNAL), ["chat m: kind is INTERNAL"]),
        (span(gen_ai__provider__name=None), ["chat m: gen_ai.provider.name is missing"]),
        (span(gen_ai__provider__name="My Own"), ["chat m: gen_ai.provider.name is no name of a provider: 'My Own'"]),
        (span(gen_ai__request__seed=1.5), ["chat m: gen_ai.request.seed is float, not int"]),
        (span(gen_ai__made_up=1), ["chat m: gen_ai.made_up is no name of the conventions"]),
        (span(status=StatusCode.OK), ["chat m: status is OK, which only the application may set"]),
        (span(status=StatusCode.ERROR), ["chat m: status ERROR and error.type None disagree"]),
        (
            span(gen_ai__input__messages='[{"role": "user"}]'),
            ["chat m: gen_ai.input.messages: 'parts' is a required property"],
        ),
    ],
)
def test_the_checker_finds_what_is_wrong(bad: Any, found: list[str]) -> None:
    """One span for each kind of mistake, and what is said of it."""
    assert problems(bad) == found


def test_our_copy_of_the_schemas_is_theirs() -> None:
    """The JSON schemas beside the tests are those of the conventions."""
    if not SHARED.is_dir():
        pytest.skip("the conventions' own files are not at hand")
    ours = Path(__file__).parent / "semconv"
    assert {p.name: p.read_text() for p in ours.iterdir()} == {
        p.name: (SHARED / p.name).read_text() for p in ours.iterdir()
    }


OF_THE_SDK = {  # OpenTelemetry's own names for what becomes of spans
    "otel.sdk.exporter.span.exported",
    "otel.sdk.processor.span.processed",
    "otel.sdk.processor.span.queue.size",
    "mlspan.errors",
}


def test_the_metrics_of_calls(aimock: str, tracing_off: None) -> None:
    """Durations, tokens and times of chunks reach the application's MeterProvider, as the conventions have them."""
    openai = pytest.importorskip("openai")
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    tracing.configure()
    integrations.openai.autolog(include_usage=True)
    with openai.OpenAI(base_url=aimock, api_key="x", max_retries=0) as client:
        hello: Any = [{"role": "user", "content": "hello"}]
        client.chat.completions.create(model="gpt-4o-mini", messages=hello)
        list(client.chat.completions.create(model="gpt-4o-mini", messages=hello, stream=True))
        with pytest.raises(openai.NotFoundError):
            client.with_options(base_url=aimock + "/nowhere").chat.completions.create(model="m", messages=hello)
    with tracing.span("flow", kind="workflow"), tracing.span("helper", kind="agent"), tracing.span("look", kind="tool"):
        pass
    with pytest.raises(ValueError, match="no"), tracing.span("broken", kind="tool"):
        raise ValueError("no")
    (resource,) = reader.get_metrics_data().resource_metrics
    (ours,) = [scope for scope in resource.scope_metrics if scope.scope.name == "mlspan"]
    calls = [metric for metric in ours.metrics if metric.name.startswith("gen_ai.")]
    assert {metric.name for metric in ours.metrics if metric not in calls} <= OF_THE_SDK
    assert [line for metric in calls for line in metric_problems(metric)] == []
    counts = {m.name: sum(point.count for point in m.data.data_points) for m in calls}
    assert counts == {
        "gen_ai.client.operation.duration": 3,
        "gen_ai.client.token.usage": 4,
        "gen_ai.client.operation.time_to_first_chunk": 1,
        "gen_ai.client.operation.time_per_output_chunk": 3,
        "gen_ai.execute_tool.duration": 2,
        "gen_ai.invoke_agent.duration": 1,
        "gen_ai.invoke_workflow.duration": 1,
    }
    tokens = next(m for m in ours.metrics if m.name == "gen_ai.client.token.usage")
    sums = {point.attributes["gen_ai.token.type"]: point.sum for point in tokens.data.data_points}
    durations = next(m for m in ours.metrics if m.name == "gen_ai.client.operation.duration")
    errors = {point.attributes.get("error.type") for point in durations.data.data_points}
    assert errors == {None, "openai.NotFoundError"}
    tools = next(m for m in ours.metrics if m.name == "gen_ai.execute_tool.duration")
    told = {(p.attributes["gen_ai.tool.name"], p.attributes.get("error.type")) for p in tools.data.data_points}
    assert told == {("look", None), ("broken", "ValueError")}
    assert set(sums) == {"input", "output"}
