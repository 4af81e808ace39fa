"""What Bedrock runs around models: agents, knowledge bases, guardrails, rerankings."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("botocore.client", reason="in the nox sessions bedrock")
from bedrock_kit import GENERATE, knows, make_client, send_events

from mlspan import integrations
from mlspan.testing import Spans, content

AGENT: Any = {"agentId": "a1", "agentAliasId": "v1", "sessionId": "s1", "inputText": "a greeting"}


@pytest.fixture
def client(scripted: Any, spans: Spans) -> Iterator[Any]:
    integrations.bedrock.autolog(log_traces=True)
    yield make_client("bedrock-agent-runtime", scripted.base_url.removesuffix("/v1"))
    integrations.bedrock.autolog(disable=True)


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def invoke(model: str, given: int, output: int) -> list[Any]:
    """Return the events in which an agent tells of one call to a model."""
    usage = {"metadata": {"usage": {"inputTokens": given, "outputTokens": output}}}
    steps = [{"modelInvocationInput": {"foundationModel": model}}, {"modelInvocationOutput": usage}]
    return [{"trace": {"agentId": "a1", "trace": {"orchestrationTrace": step}}} for step in steps]


def test_an_agent_with_its_trace(client: Any, scripted: Any, spans: Spans) -> None:
    """Its pieces are one answer, and the tokens of its calls to models are added up."""
    above = ("completion", "trace", "trace", "orchestrationTrace")
    if not knows(*above, "modelInvocationOutput", operation="InvokeAgent", service="bedrock-agent-runtime"):
        pytest.skip("this version's traces have no tokens")
    chunks = [{"chunk": {"bytes": encode(piece)}} for piece in ("One ", "two.")]
    send_events(scripted, [*invoke("m", 5, 2), *invoke("m", 7, 3), *chunks])
    for _ in client.invoke_agent(**AGENT, enableTrace=True)["completion"]:
        pass
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert span.name == "invoke_agent"
    assert span.kind.name == "CLIENT"
    assert attributes["gen_ai.agent.id"] == "a1"
    assert attributes["gen_ai.agent.version"] == "v1"
    assert attributes["gen_ai.conversation.id"] == "s1"
    assert attributes["gen_ai.provider.name"] == "aws.bedrock"
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (12, 5)
    assert attributes["gen_ai.request.model"] == "m"
    assert content(span, "mlspan.input") == "a greeting"
    assert content(span, "mlspan.output") == "One two."


def test_an_agent_that_hands_control_back(client: Any, scripted: Any, spans: Spans) -> None:
    asked = {"invocationId": "i1", "invocationInputs": [{"functionInvocationInput": {"actionGroup": "g"}}]}
    send_events(scripted, [{"returnControl": asked}])
    assert list(client.invoke_agent(**AGENT)["completion"])
    assert content(spans.one(), "mlspan.output") == {"returnControl": asked}


def test_a_search_in_a_knowledge_base(client: Any, scripted: Any, spans: Spans) -> None:
    found = [
        {"content": {"text": "Tea."}, "location": {"type": "S3", "s3Location": {"uri": "s3://b/k"}}, "score": 0.5},
        {"content": {"text": "Milk."}, "metadata": {"x-amz-bedrock-kb-chunk-id": "c1"}},
    ]
    scripted.reply({"retrievalResults": found})
    client.retrieve(
        knowledgeBaseId="KB00000001",
        retrievalQuery={"text": "a greeting"},
        retrievalConfiguration={"vectorSearchConfiguration": {"numberOfResults": 2}},
    )
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert span.name == "retrieval KB00000001"
    assert attributes["aws.bedrock.knowledge_base.id"] == attributes["gen_ai.data_source.id"] == "KB00000001"
    assert attributes["gen_ai.retrieval.top_k"] == 2
    documents = content(span, "gen_ai.retrieval.documents")
    assert [(one["id"], one["score"]) for one in documents] == [("s3://b/k", 0.5), ("c1", 0.0)]


CITED = {"retrievedReferences": [{"content": {"text": "Tea."}}]}


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_from_a_knowledge_base(streamed: bool, client: Any, scripted: Any, spans: Spans) -> None:
    if streamed and not hasattr(client, "retrieve_and_generate_stream"):
        pytest.skip("this version does not stream it")
    if streamed:
        send_events(scripted, [{"output": {"text": piece}} for piece in ("One ", "two.")])
        list(client.retrieve_and_generate_stream(**GENERATE)["stream"])
    else:
        scripted.reply({"output": {"text": "One two."}, "citations": [CITED], "sessionId": "s1"})
        client.retrieve_and_generate(**GENERATE)
    span = spans.one()
    assert span.name == "chat arn:aws:bedrock:us-east-1::foundation-model/m"
    assert (span.attributes or {})["aws.bedrock.knowledge_base.id"] == "KB00000001"
    (message,) = content(span, "gen_ai.output.messages")
    part = {"type": "text", "content": "One two."}
    assert message["parts"] == [part if streamed else {**part, "annotations": [CITED]}]


def test_a_guardrail_of_its_own(scripted: Any, client: Any, spans: Spans) -> None:
    if not knows("action", operation="ApplyGuardrail"):
        pytest.skip("this version applies none")
    scripted.reply({"action": "GUARDRAIL_INTERVENED", "outputs": [{"text": "no"}], "usage": {}, "assessments": []})
    runtime = make_client("bedrock-runtime", scripted.base_url.removesuffix("/v1"))
    asked: Any = {"guardrailIdentifier": "g1", "guardrailVersion": "1", "source": "INPUT"}
    runtime.apply_guardrail(**asked, content=[{"text": {"text": "a greeting"}}])
    attributes = dict(spans.one().attributes or {})
    assert spans.one().name == "apply_guardrail"
    assert attributes["mlspan.kind"] == "guardrail"
    assert attributes["aws.bedrock.guardrail.id"] == "g1"
    assert attributes["mlspan.guardrail.action"] == "GUARDRAIL_INTERVENED"
    assert "a greeting" in attributes["mlspan.input"]


def test_a_reranking(client: Any, scripted: Any, spans: Spans) -> None:
    if not hasattr(client, "rerank"):
        pytest.skip("this version reranks nothing")
    scripted.reply({"results": [{"index": 0, "relevanceScore": 0.5}]})
    model = {"modelArn": "arn:aws:bedrock:us-east-1::foundation-model/m"}
    source = {"type": "TEXT", "textDocument": {"text": "Tea."}}
    client.rerank(
        queries=[{"type": "TEXT", "textQuery": {"text": "a greeting"}}],
        sources=[{"type": "INLINE", "inlineDocumentSource": source}],
        rerankingConfiguration={
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {"modelConfiguration": model},
        },
    )
    attributes = dict(spans.one().attributes or {})
    assert (spans.one().name, attributes["mlspan.kind"]) == ("rerank", "reranker")
    assert content(spans.one(), "mlspan.output")["results"] == [{"index": 0, "relevanceScore": 0.5}]


FOUNDATION = "arn:aws:bedrock:us-east-1::foundation-model/"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/"


@pytest.mark.parametrize(
    ("asked", "like"),
    [
        (f"{FOUNDATION}amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        (f"{PROFILE}us.amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0"),
        ("apac.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("us-gov.anthropic.claude-opus-5", "anthropic.claude-opus-5"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", None),
    ],
)
def test_prices_by_arn_and_region(asked: str, like: str | None) -> None:
    from mlspan.tracing.export.cost import compute_span_cost

    def find_cost(model: str) -> Any:
        counts = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
        return compute_span_cost({"gen_ai.provider.name": "aws.bedrock", "gen_ai.request.model": model, **counts})

    assert find_cost(asked) == (find_cost(like) if like else None)
    assert like is None or find_cost(like) is not None
