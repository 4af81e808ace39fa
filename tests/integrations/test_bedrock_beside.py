"""Bedrock's calls beside others who trace them: each call counts once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("botocore.client", reason="in the nox sessions bedrock")
from bedrock_kit import ANSWER, ASKED, DUMMY, make_client, send_events, stream_of, text

from mlspan import integrations
from mlspan.testing import Spans


@pytest.fixture
def client(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.bedrock.autolog(log_traces=True)
    yield make_client("bedrock-runtime", scripted.base_url.removesuffix("/v1"))
    integrations.bedrock.autolog(disable=True)


@pytest.mark.parametrize("streamed", [False, True])
def test_langchains_model_over_it(streamed: bool, client: Any, scripted: Any, spans: Spans) -> None:
    """LangChain's span is the call's, and has what Bedrock has said."""
    langchain_aws = pytest.importorskip("langchain_aws", reason="in the nox session bedrock_newest")
    integrations.langchain.autolog(log_traces=True)
    try:
        address: Any = {**DUMMY, "endpoint_url": scripted.base_url.removesuffix("/v1")}
        model = langchain_aws.ChatBedrockConverse(
            model="m", provider="anthropic", client=client, disable_streaming=False, **address
        )
        if streamed:
            send_events(scripted, stream_of(text("One ", "two.")))
            list(model.stream("a greeting"))
        else:
            scripted.reply(ANSWER)
            model.invoke("a greeting")
    finally:
        integrations.langchain.autolog(disable=True)
    assert spans.tree() == "chat m [12 in, 5 out]"
    assert (spans.one().attributes or {})["gen_ai.provider.name"] == "aws.bedrock"


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("streamed", [False, True])
def test_botocores_instrumentor_beside_it(
    first: str, streamed: bool, scripted: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenTelemetry's spans of the same calls are in the same trace, and the tokens count once."""
    theirs = pytest.importorskip("opentelemetry.instrumentation.botocore", reason="in the nox session bedrock")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from mlspan.tracing.export.counted_calls import describe_counted, find_repeats
    from mlspan.tracing.operations import semconv as sc

    seen, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(seen))
    instrumentor = theirs.BotocoreInstrumentor()
    turn_on = [
        lambda: integrations.bedrock.autolog(log_traces=True),
        lambda: instrumentor.instrument(tracer_provider=provider),
    ]
    for turn in turn_on if first == "ours" else reversed(turn_on):
        turn()
    try:
        client = make_client("bedrock-runtime", scripted.base_url.removesuffix("/v1"))
        if streamed:
            send_events(scripted, stream_of(text("One ", "two.")))
            stream = client.converse_stream(**ASKED)["stream"]
            assert len(list(stream)) == 6
        else:
            scripted.reply(ANSWER)
            assert client.converse(**ASKED)["stopReason"] == "end_turn"
    finally:
        instrumentor.uninstrument()
        integrations.bedrock.autolog(disable=True)
    everyone = [*spans.all, *seen.get_finished_spans()]
    assert len(everyone) == 2
    parents = {
        span.context.span_id: span.parent.span_id if span.parent is not None else None
        for span in everyone
        if span.context is not None
    }
    counted = [
        describe_counted(span, has_cost=False) for span in everyone if sc.USAGE_INPUT_TOKENS in (span.attributes or {})
    ]
    assert len(counted) - len(find_repeats(counted, parents)) == 1
