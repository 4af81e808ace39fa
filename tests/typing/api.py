"""The public surface, as a user writes it: type-checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import mlspan
from mlspan import integrations, testing, tracing

mlspan.autolog()
mlspan.autolog(log_traces=True, disable=False, exclusive=False, disable_for_unsupported_versions=True, silent=False)
integrations.autolog(silent=True)
integrations.autolog(
    log_input_examples=False,
    log_model_signatures=True,
    log_models=True,
    disable=False,
    exclusive=False,
    disable_for_unsupported_versions=True,
    silent=False,
    log_datasets=True,
    log_traces=True,
    extra_tags={"team": "blue"},
    registered_model_name="model",
)
integrations.xgboost.autolog(log_input_examples=True, model_format="json")
integrations.openai.autolog(log_traces=True)
integrations.openai.autolog(log_traces=True, include_usage=True, log_images=False)
integrations.langchain.autolog(exclusive=True)
integrations.langgraph.autolog(disable=True)
version: str = mlspan.__version__

tracing.configure(
    tracking_uri="http://127.0.0.1:5000",
    experiment="chat",
    run="0123",
    otlp_endpoint="http://127.0.0.1:4318",
    otlp_protocol="grpc",
    otlp_names="openinference",
    capture_content=True,
    redact=[r"sk-\w+"],
    max_content_bytes=65536,
    sample_ratio=0.5,
    keep=tracing.Keep(errors=True, slower_than=5.0, costlier_than=0.05, ratio=0.1),
    durability="batch",
    service_name="app",
    global_provider=False,
    tags={"env": "prod"},
)
tracing.configure(redact=str.lower)


@tracing.trace
def plain(a: int) -> str:
    return str(a)


@tracing.trace(kind="tool", name="look_up")
async def later(a: int) -> str:
    return str(a)


@tracing.trace
def several() -> Iterator[int]:
    yield 1


@tracing.trace
async def several_later() -> AsyncIterator[int]:
    yield 1


said: str = plain(1)
wrapped: str = tracing.wrap(plain)(2)
with tracing.session("s"), tracing.user("u"), tracing.tags(a="b"), tracing.run("r"):
    with tracing.model("m"), tracing.request_id("q"):
        tracing.feedback("thumbs", True, rationale="why", source="human", source_id="ada", metadata={"page": "7"})
    with tracing.span("look up", kind="tool", input={"q": 1}) as looking:
        looking.output = [1, 2]
    tracing.feedback("tone", "friendly", span=looking)
tracing.feedback("length", 3, trace_id="0" * 31 + "1", span_id="0" * 15 + "1")
tracing.expectation("answer", {"city": "Paris"}, trace_id="0" * 31 + "1")
ok: tracing.FlushResult = tracing.flush(1.0) and tracing.shutdown(1.0)
trace_id: str | None = tracing.current_trace_id()
link: str | None = tracing.trace_url()
with testing.spans() as ended:
    tree: str = ended.tree("gen_ai.request.model")
    names: list[str] = [span.name for span in ended.all]
    first: object = testing.content(ended.one(), "gen_ai.output.messages")


class Weather:
    @tracing.trace(kind="tool")
    def ask(self, city: str, *, days: int = 1) -> list[str]:
        return [city] * days


forecast: list[str] = Weather().ask("Paris", days=2)
Weather().ask(1)  # type: ignore[arg-type]  # the decorator keeps what the function takes
tracing.configure(durability="never")  # type: ignore[arg-type]
tracing.configure(otlp_protocol="http")  # type: ignore[arg-type]
