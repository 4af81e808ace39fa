"""LangChain: what a call cost, what its messages hold, and what the caller said of it, whichever package made it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("langgraph")

from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from mlspan import integrations, tracing
from mlspan.integrations.langchain.messages import make_chat_record
from mlspan.testing import Spans, content
from mlspan.tracing.export.cost import compute_span_cost


@pytest.fixture(autouse=True)
def _autolog(spans: Spans) -> Iterator[None]:
    integrations.langchain.autolog()
    integrations.langgraph.autolog()
    yield
    integrations.langchain.autolog(disable=True)
    integrations.langgraph.autolog(disable=True)


class Says(BaseChatModel):
    """A model of *provider* that says *message*."""

    message: Any = None
    provider: str = "anthropic"

    @property
    def _llm_type(self) -> str:
        return "says"

    def _get_ls_params(self, stop: Any = None, **_: Any) -> Any:
        told: Any = {"ls_provider": self.provider, "ls_model_name": "claude-sonnet-4-5", "ls_model_type": "chat"}
        return {**told, "ls_temperature": 0.25, "ls_max_tokens": 99, "ls_stop": ["END"]}

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.message)])


def say(spans: Spans, text: Any = "Hi.", **more: Any) -> dict[str, Any]:
    """Return the attributes of a call whose answer is a message with these fields."""
    Says(message=AIMessage(text, **more)).invoke("Hello")
    return dict(spans.all[-1].attributes or {})


def count(attributes: dict[str, Any]) -> dict[str, int]:
    return {
        name.partition("usage.")[2]: n
        for name, n in attributes.items()
        if name.startswith(("gen_ai.usage.", "mlspan.usage."))
    }


@pytest.mark.parametrize(
    ("short", "long", "cost"), [(20000, 0, 0.075765), (0, 20000, 0.120765), (10000, 10000, 0.098265)]
)
def test_cache_writes_by_lifetime_are_counted_and_priced(spans: Spans, short: int, long: int, cost: float) -> None:
    """Anthropic's package tells them in place of the sum; an hour costs more than five minutes."""
    details = {"cache_creation": 0, "ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
    usage: Any = {"input_tokens": 20005, "output_tokens": 50, "total_tokens": 20055, "input_token_details": details}
    told = say(spans, usage_metadata=usage)
    assert told["gen_ai.usage.cache_write.input_tokens"] == 20000
    assert (compute_span_cost(told) or {})["total_cost"] == pytest.approx(cost)


def test_counts_of_a_tier_and_unknown_ones_are_kept(spans: Spans) -> None:
    """OpenAI's flex and priority counts are counts of the same tokens; what has no field keeps its own name."""
    usage: Any = {
        "input_tokens": 100,
        "output_tokens": 40,
        "total_tokens": 140,
        "input_token_details": {"flex": 20, "flex_cache_read": 80, "video": 7},
        "output_token_details": {"flex": 10, "flex_reasoning": 30},
    }
    assert count(say(spans, usage_metadata=usage)) == {
        "input_tokens": 100,
        "output_tokens": 40,
        "cache_read.input_tokens": 80,
        "reasoning.output_tokens": 30,
        "flex.input_tokens": 20,
        "flex.output_tokens": 10,
        "video.input_tokens": 7,
    }


def test_reasoning_beside_the_output_is_part_of_it(spans: Spans) -> None:
    """XAI counts it beside the output; the total tells. Where it is inside, nothing is added."""
    beside: Any = {
        "input_tokens": 12,
        "output_tokens": 2,
        "total_tokens": 331,
        "output_token_details": {"reasoning": 317},
    }
    inside: Any = {
        "input_tokens": 12,
        "output_tokens": 319,
        "total_tokens": 331,
        "output_token_details": {"reasoning": 317},
    }
    assert count(say(spans, usage_metadata=beside)) == count(say(spans, usage_metadata=inside))
    assert (spans.all[0].attributes or {})["gen_ai.usage.output_tokens"] == 319


def test_zeros_in_place_of_unknown_counts_are_none(spans: Spans) -> None:
    """A package that fills in zeros where the provider has told nothing."""
    assert count(say(spans, usage_metadata={"input_tokens": 0, "output_tokens": 0, "total_tokens": 0})) == {}


def test_a_hit_of_langchains_cache_costs_nothing(spans: Spans) -> None:
    """The first call is counted, the second says that it was none, and still shows its answer."""
    usage: Any = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
    model = Says(message=AIMessage("Hi.", usage_metadata=usage), cache=InMemoryCache())
    for _ in range(2):
        assert model.invoke("Hello").content == "Hi."
    first, second = (dict(span.attributes or {}) for span in spans.all)
    assert count(first) == {"input_tokens": 100, "output_tokens": 10}
    assert count(second) == {}
    assert second["mlspan.langchain.cached"] is True
    assert compute_span_cost(second) is None
    assert content(spans.all[1], "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi."}]


def test_no_finish_reason_is_invented(spans: Spans) -> None:
    """Where the package tells none, the span has none; where it does, in the conventions' words."""
    assert "gen_ai.response.finish_reasons" not in say(spans)
    for told, reason in (
        ("refusal", "content_filter"),
        ("end_turn", "stop"),
        ("SAFETY", "content_filter"),
        ("odd", "odd"),
    ):
        attributes = say(spans, response_metadata={"stop_reason": told})
        assert attributes["gen_ai.response.finish_reasons"] == (reason,)


BLOCKS: list[tuple[Any, dict[str, Any]]] = [
    ({"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "reasoning", "content": "Hm."}),
    (
        {"type": "reasoning_content", "reasoning_content": {"text": "Hm.", "signature": "x"}},
        {"type": "reasoning", "content": "Hm."},
    ),
    ({"type": "reasoning", "reasoning": "Hm."}, {"type": "reasoning", "content": "Hm."}),
    ({"type": "redacted_thinking", "data": "abcd"}, {"type": "redacted_thinking", "content": {"characters": 4}}),
    (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}},
        {"type": "blob", "modality": "document", "content": "QUJD", "mime_type": "application/pdf"},
    ),
    (
        {"type": "document", "source": {"type": "text", "data": "A plain text."}},
        {"type": "text", "content": "A plain text."},
    ),
    (
        {"type": "document", "document": {"format": "pdf", "name": "a", "source": {"bytes": b"ABC"}}},
        {"type": "blob", "modality": "document", "content": "QUJD", "mime_type": "application/pdf"},
    ),
    (
        {"type": "media", "mime_type": "audio/wav", "data": "QUJD"},
        {"type": "blob", "modality": "audio", "content": "QUJD", "mime_type": "audio/wav"},
    ),
    (
        {"type": "media", "mime_type": "video/mp4", "file_uri": "gs://bucket/film"},
        {"type": "uri", "modality": "video", "uri": "gs://bucket/film", "mime_type": "video/mp4"},
    ),
    (
        {"type": "image", "base64": "QUJD", "mime_type": "image/png"},
        {"type": "blob", "modality": "image", "content": "QUJD", "mime_type": "image/png"},
    ),
    ({"type": "file", "file_id": "file-1"}, {"type": "file", "modality": "document", "file_id": "file-1"}),
    (
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}},
        {
            "type": "server_tool_call",
            "name": "web_search",
            "server_tool_call": {"type": "web_search", "arguments": {"query": "x"}},
            "id": "s1",
        },
    ),
    (
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"title": "T"}]},
        {
            "type": "server_tool_call_response",
            "server_tool_call_response": {"type": "web_search", "output": [{"title": "T"}]},
            "id": "s1",
        },
    ),
    ({"type": "made_up", "x": 1}, {"type": "made_up", "content": {"x": 1}}),
]


@pytest.mark.parametrize(("block", "part"), BLOCKS, ids=[f"{n}-{block['type']}" for n, (block, _) in enumerate(BLOCKS)])
def test_blocks_of_all_providers_become_parts(spans: Spans, block: Any, part: dict[str, Any]) -> None:
    """In answers and in questions, beside text; the conventions' schemas hold (the fixture checks them)."""
    say(spans, [block, {"type": "text", "text": "So."}])
    assert content(spans.all[0], "gen_ai.output.messages")[0]["parts"] == [part, {"type": "text", "content": "So."}]
    Says(message=AIMessage("Hi.")).invoke([HumanMessage([block])])
    assert content(spans.all[1], "gen_ai.input.messages")[0]["parts"] == [part]


def test_a_refusal_is_what_the_model_said(spans: Spans) -> None:
    """OpenAI's refusal stands beside an empty content."""
    say(spans, "", additional_kwargs={"refusal": "I will not."})
    assert content(spans.all[0], "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "I will not."}]


def test_what_the_caller_said(spans: Spans) -> None:
    """Parameters that only the metadata tell, the name of the run, session and user by metadata or configurable."""
    model = Says(message=AIMessage("Hi."))
    model.invoke("Hello", {"run_name": "greet", "metadata": {"conversation_id": "c1", "user_id": 7, "team": "red"}})
    told = dict(spans.all[0].attributes or {})
    assert spans.all[0].name == "greet"
    assert (told["session.id"], told["user.id"], told["mlspan.langchain.metadata.team"]) == ("c1", "7", "red")
    assert told["gen_ai.request.temperature"] == 0.25
    assert told["gen_ai.request.max_tokens"] == 99
    assert told["gen_ai.request.stop_sequences"] == ("END",)
    spans.clear()
    chain = RunnableLambda(lambda x: x, name="chain") | model
    chain.invoke("Hello", {"configurable": {"session_id": "s1", "user_id": "ann"}})
    assert ((spans.all[0].attributes or {})["session.id"], (spans.all[0].attributes or {})["user.id"]) == ("s1", "ann")
    spans.clear()
    with tracing.session("ours"):
        model.invoke("Hello", {"metadata": {"session_id": "theirs"}})
    assert (spans.all[0].attributes or {})["session.id"] == "ours"


@pytest.mark.parametrize(
    "params",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}},
        {"text": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {"response_mime_type": "application/json", "response_schema": {"type": "object"}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    ],
    ids=["chat", "responses", "gemini", "anthropic"],
)
def test_the_schema_that_an_answer_has_to_follow(params: dict[str, Any]) -> None:
    """In each provider's words: the output is JSON, and the schema is content."""
    record = make_chat_record({}, params, capture_content=True)
    assert (record.output_type, record.output_schema) == ("json", {"type": "object"})
    assert make_chat_record({}, params, capture_content=False).output_schema is None


@dataclasses.dataclass
class DataState:
    messages: list[Any]
    city: str = "Paris"


class ModelState(BaseModel):
    messages: list[Any]
    city: str = "Paris"


@pytest.mark.parametrize("cls", [DataState, ModelState])
def test_a_state_that_is_an_object_is_recorded_whole(spans: Spans, cls: Any) -> None:
    """Its messages in OpenAI's form, and its other fields beside them."""
    graph = StateGraph(cls).add_node("n", lambda _: {"city": "Rome"}).add_edge(START, "n").add_edge("n", END).compile()
    graph.invoke(cls(messages=[HumanMessage("Where?")]))
    expected = {"messages": [{"role": "user", "content": "Where?"}], "city": "Paris"}
    assert content(spans.named("n")[0], "mlspan.input") == expected
    assert content(spans.named("invoke_workflow")[0], "mlspan.input") == expected


class Waiting(TypedDict, total=False):
    a: str
    b: str


@pytest.mark.parametrize("depth", ["flat", "subgraph"])
def test_two_interrupts_at_once_are_both_told(spans: Spans, depth: str) -> None:
    """Of parallel nodes, each once, in subgraphs too."""

    def wait(name: str) -> Any:
        return lambda _: {name: interrupt(f"{name}?")}

    inner: Any = StateGraph(Waiting).add_node("x", wait("a")).add_node("y", wait("b"))
    inner = inner.add_edge(START, "x").add_edge(START, "y").add_edge("x", END).add_edge("y", END)
    if depth == "subgraph":
        inner = (
            StateGraph(Waiting).add_node("inside", inner.compile()).add_edge(START, "inside").add_edge("inside", END)
        )
    graph = inner.compile(checkpointer=InMemorySaver())
    graph.invoke({}, {"configurable": {"thread_id": "t"}})
    root = spans.named("invoke_workflow")[0]
    assert sorted(content(root, "mlspan.output")["__interrupt__"]) == ["a?", "b?"]
    assert "ERROR" not in spans.tree()
