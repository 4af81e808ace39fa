"""Servers that speak OpenAI's API and answer in their own way: the payloads follow their documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import openai
import pytest

from mlspan.testing import Spans, content
from mlspan.tracing.export.cost import compute_span_cost

pytestmark = pytest.mark.usefixtures("openai_on")


def usage(given: int, taken: int, total: int | None = None, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": total or given + taken, **more}


def chunk(finish: str | None = None, *, choice: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk whose delta has *fields*; ``top`` is what stands beside the choices."""
    top = fields.pop("top", {})
    one = {"index": 0, "delta": fields, "finish_reason": finish, **(choice or {})}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [one], **top}


def whole(finish: str = "stop", *, choice: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    top = fields.pop("top", {})
    one = {"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish, **(choice or {})}
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [one], **top}


def call(id: str | None, name: str, arguments: str, index: int | None = None) -> dict[str, Any]:
    made = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return made if index is None else {**made, "index": index}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "content": said}


def thought(said: str) -> dict[str, Any]:
    return {"type": "reasoning", "content": said}


def called(name: str, arguments: Any, id: str | None = None) -> dict[str, Any]:
    made = {"type": "tool_call", "name": name, "arguments": arguments}
    return made if id is None else {**made, "id": id}


class Server(NamedTuple):
    """An answer of a server, whole or as a list of chunks, and what has to be recorded of it."""

    host: str
    provider: str
    answer: Any
    parts: list[Any]
    tokens: tuple[int | None, int | None] = (12, 5)
    others: Mapping[str, Any] = MappingProxyType({})
    failure: tuple[str, str] | None = None


PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome"}'
TWO_CALLS = [called("weather", {"city": "Paris"}, "call_a"), called("weather", {"city": "Rome"}, "call_b")]
NO_ID_CALLS = [called("weather", {"city": "Paris"}), called("weather", {"city": "Rome"}), called("time", {})]
LAST = {"usage": usage(12, 5)}
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm, "}, {"type": "text", "text": "yes."}]}
XAI = usage(12, 2, 331, completion_tokens_details={"reasoning_tokens": 317})

SERVERS = {
    "ollama: every call has index 0": Server(
        *("localhost:11434", "openai"),
        [
            chunk(tool_calls=[call("call_a", "weather", PARIS, 0)]),
            chunk(tool_calls=[call("call_b", "weather", ROME, 0)]),
            chunk("tool_calls", top=LAST),
        ],
        TWO_CALLS,
    ),
    "gemini: calls without index or id, chunk by chunk": Server(
        *("generativelanguage.googleapis.com", "gcp.gemini"),
        [
            chunk(tool_calls=[call("", "weather", PARIS)]),
            chunk(tool_calls=[call("", "weather", ROME), call("", "time", "{}")]),
            chunk("tool_calls", top=LAST),
        ],
        NO_ID_CALLS,
    ),
    "gemini: calls with index 0 and no id": Server(
        *("generativelanguage.googleapis.com", "gcp.gemini"),
        [
            chunk(tool_calls=[call("", "weather", PARIS, 0)]),
            chunk(tool_calls=[call("", "weather", ROME, 0)]),
            chunk(tool_calls=[call("", "time", "{}", 0)]),
            chunk("tool_calls", top=LAST),
        ],
        NO_ID_CALLS,
    ),
    "gemini: whole, without index or id": Server(
        *("generativelanguage.googleapis.com", "gcp.gemini"),
        whole("tool_calls", content=None, top=LAST)
        | {"choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": None,
            "tool_calls": [call("", "weather", PARIS), call("", "weather", ROME), call("", "time", "{}")]}}]},
        NO_ID_CALLS,
    ),
    "gemini: thinking is in the total alone": Server(
        *("generativelanguage.googleapis.com", "gcp.gemini"),
        whole(content="Hi.", top={"usage": usage(12, 5, 117)}),
        [text("Hi.")],
        (12, 105),
        {"gen_ai.usage.reasoning.output_tokens": 100},
    ),
    "openai: pieces of two calls, by index": Server(
        *("api.openai.com", "openai"),
        [
            chunk(tool_calls=[call("call_a", "weather", "", 0)]),
            chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"city": '}}]),
            chunk(tool_calls=[call("call_b", "weather", "", 1)]),
            chunk(tool_calls=[{"index": 0, "function": {"arguments": '"Paris"}'}}]),
            chunk(tool_calls=[{"index": 1, "function": {"arguments": ROME}}]),
            chunk("tool_calls", top=LAST),
        ],
        TWO_CALLS,
    ),
    "a server that repeats id and name in each piece": Server(
        *("vllm.test", "openai"),
        [
            chunk(tool_calls=[call("call_a", "weather", '{"city": ', 0)]),
            chunk(tool_calls=[call("call_a", "weather", '"Paris"}', 0)]),
            chunk(tool_calls=[call("call_b", "weather", ROME, 1)]),
            chunk("tool_calls", top=LAST),
        ],
        TWO_CALLS,
    ),
    "a server that makes a new id for each piece": Server(
        *("vllm.test", "openai"),
        [
            chunk(tool_calls=[call("call_a", "weather", "", 0)]),
            chunk(tool_calls=[{"index": 0, "id": "call_x", "function": {"arguments": PARIS}}]),
            chunk("tool_calls", top=LAST),
        ],
        TWO_CALLS[:1],
    ),
    "groq: usage in x_groq": Server(
        *("api.groq.com", "groq"),
        [
            chunk(content="Hi.", top={"x_groq": {"id": "req_1"}}),
            chunk("stop", top={"x_groq": {"id": "req_1", "usage": usage(12, 5)}}),
        ],
        [text("Hi.")],
    ),
    "kimi: usage in the choice": Server(
        *("api.moonshot.ai", "moonshot_ai"),
        [chunk(content="Hi."), chunk("stop", choice={"usage": usage(12, 5, cached_tokens=8)})],
        [text("Hi.")],
        others={"gen_ai.usage.cache_read.input_tokens": 8},
    ),
    "xai: reasoning beside completion": Server(
        *("api.x.ai", "x_ai"),
        whole(content="Hi.", reasoning_content="Hm.", top={"usage": XAI}),
        [thought("Hm."), text("Hi.")],
        (12, 319),
        {"gen_ai.usage.reasoning.output_tokens": 317},
    ),
    "openai: reasoning inside completion": Server(
        *("api.openai.com", "openai"),
        whole(content="Hi.", top={"usage": usage(12, 319, completion_tokens_details={"reasoning_tokens": 317})}),
        [text("Hi.")],
        (12, 319),
        {"gen_ai.usage.reasoning.output_tokens": 317},
    ),
    "a total that nothing explains": Server(
        *("vllm.test", "openai"),
        whole(content="Hi.", top={"usage": usage(12, 5, 40, completion_tokens_details={"reasoning_tokens": 3})}),
        [text("Hi.")],
        others={"gen_ai.usage.reasoning.output_tokens": 3},
    ),
    "magistral: whole, content is a list": Server(
        *("api.mistral.ai", "mistral_ai"),
        whole(content=[THINKING, {"type": "text", "text": "Hi."}], top=LAST),
        [thought("Hm, yes."), text("Hi.")],
    ),
    "magistral: deltas of lists and of strings": Server(
        *("api.mistral.ai", "mistral_ai"),
        [
            chunk(content=[THINKING]),
            chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": " So."}]}]),
            chunk(content=[{"type": "text", "text": "Hi"}]),
            chunk(content=" there."),
            chunk("stop", top=LAST),
        ],
        [thought("Hm, yes. So."), text("Hi there.")],
    ),
    "openrouter: 200 with an error": Server(
        *("openrouter.ai", "openrouter"),
        {"error": {"message": "Upstream is overloaded", "code": 502}, "user_id": "u"},
        [],
        (None, None),
        failure=("502", "Upstream is overloaded"),
    ),
    "openrouter: a choice with an error": Server(
        *("openrouter.ai", "openrouter"),
        whole("error", content="Once", choice={"error": {"message": "Cut off", "code": "stream_cut"}}, top=LAST),
        [text("Once")],
        failure=("stream_cut", "Cut off"),
    ),
    "openrouter: what it charges": Server(
        *("openrouter.ai", "openrouter"),
        whole(
            content="Hi.",
            reasoning="Hm.",
            top={"provider": "Fireworks", "usage": usage(12, 5, cost=0.03)},
        ),
        [thought("Hm."), text("Hi.")],
        others={"mlspan.usage.cost": 0.03, "mlspan.response.upstream": "Fireworks"},
    ),
    "openrouter: reasoning in details alone": Server(
        *("openrouter.ai", "openrouter"),
        whole(
            content="Hi.",
            reasoning_details=[
                {"type": "reasoning.summary", "summary": "Hm."}, {"type": "reasoning.encrypted", "data": "x"},
            ],
            top=LAST,
        ),
        [thought("Hm."), text("Hi.")],
    ),
    "deepseek: its names of the cache": Server(
        *("api.deepseek.com", "deepseek"),
        whole(content="Hi.", top={"usage": usage(12, 5, prompt_cache_hit_tokens=8, prompt_cache_miss_tokens=4)}),
        [text("Hi.")],
        others={"gen_ai.usage.cache_read.input_tokens": 8},
    ),
    "deepseek: thoughts before the answer, in a stream": Server(
        *("api.deepseek.com", "deepseek"),
        [
            chunk(role="assistant", content=None, reasoning_content="Hm, "),
            chunk(content=None, reasoning_content="yes."),
            chunk(content="Hi."),
            chunk("stop", content="", top={"usage": usage(12, 5, prompt_cache_hit_tokens=8)}),
        ],
        [thought("Hm, yes."), text("Hi.")],
        others={"gen_ai.usage.cache_read.input_tokens": 8},
    ),
    "vllm: usage in every chunk": Server(
        *("vllm.test", "openai"),
        [
            chunk(content="Hi", top={"usage": usage(12, 1)}),
            chunk(content=".", top={"usage": usage(12, 2)}),
            chunk("stop", top=LAST),
        ],
        [text("Hi.")],
    ),
    "azure: first a chunk without choices": Server(
        *("mine.openai.azure.com", "azure.ai.openai"),
        [
            {**chunk(), "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            chunk(content="Hi."),
            chunk("content_filter", top=LAST),
        ],
        [text("Hi.")],
    ),
}  # fmt: skip


@pytest.fixture
def ask(request: pytest.FixtureRequest) -> Iterator[Any]:
    """``ask(host, answer, **request)``: a request to a client of that host, which gives that answer."""
    httpx: Any = __import__("httpx2" if openai.__version__ >= "3" else "httpx")
    clients: list[Any] = []

    def ask(host: str, answer: Any, **more: Any) -> Any:
        def reply(_: Any) -> Any:
            if not isinstance(answer, list):
                return httpx.Response(200, json=answer)
            events = "".join(f"data: {json.dumps(event)}\n\n" for event in answer) + "data: [DONE]\n\n"
            return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})

        http = httpx.Client(transport=httpx.MockTransport(reply))
        clients.append(openai.OpenAI(base_url=f"https://{host}/v1", api_key="x", http_client=http, max_retries=0))
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}
        got = clients[-1].chat.completions.create(stream=isinstance(answer, list), **asked)
        return list(got) if isinstance(answer, list) else got

    yield ask
    for client in clients:
        client.close()


@pytest.mark.parametrize("name", SERVERS)
def test_an_answer_is_read_as_its_server_means_it(name: str, ask: Any, spans: Spans) -> None:
    server = SERVERS[name]
    ask(server.host, server.answer)
    span = spans.one()
    attributes = dict(span.attributes or {})
    said = [] if "gen_ai.output.messages" not in attributes else content(span, "gen_ai.output.messages")
    assert [part for message in said for part in message["parts"]] == server.parts
    assert tuple(attributes.get(f"gen_ai.usage.{kind}_tokens") for kind in ("input", "output")) == server.tokens
    assert attributes["gen_ai.provider.name"] == server.provider
    assert {one: attributes.get(one) for one in server.others} == server.others
    if server.failure is not None:
        assert (attributes["error.type"], span.status.description) == server.failure
    else:
        assert span.status.is_unset


def test_what_the_provider_charges_counts_before_the_price_list(ask: Any, spans: Spans) -> None:
    """A price list has the model too, and other prices."""
    charged = {"cost": 0.03, "cost_details": {"upstream_inference_prompt_cost": 0.01}}
    ask("openrouter.ai", whole(content="Hi.", top={"model": "openai/gpt-4o-mini", "usage": usage(12, 5, **charged)}))
    cost = compute_span_cost(spans.one().attributes or {})
    assert cost == {"input_cost": 0.01, "output_cost": pytest.approx(0.02), "total_cost": 0.03}


@pytest.mark.parametrize(("tier", "factor"), [("default", 1), (None, 1), ("flex", 0.5), ("priority", 1.8)])
def test_the_service_tier_is_in_the_price(ask: Any, spans: Spans, tier: str | None, factor: float) -> None:
    """What the answer says it was billed in counts, whatever was asked for."""
    top = {"model": "gpt-5-mini", "usage": usage(1_000_000, 0), **({"service_tier": tier} if tier else {})}
    ask("api.openai.com", whole(content="Hi.", top=top), model="gpt-5-mini", service_tier="auto")
    cost = compute_span_cost(spans.one().attributes or {})
    assert cost is not None
    assert cost["total_cost"] == pytest.approx(0.25 * factor)


def test_a_tier_without_a_price_has_no_cost(ask: Any, spans: Spans) -> None:
    """The standard price would be wrong."""
    top = {"model": "gpt-4", "usage": usage(1000, 10), "service_tier": "flex"}
    ask("api.openai.com", whole(content="Hi.", top=top), model="gpt-4")
    assert compute_span_cost(spans.one().attributes or {}) is None


def test_reasoning_that_is_sent_back_is_input(ask: Any, spans: Spans) -> None:
    """DeepSeek wants it back with the tool calls, OpenRouter under its own name."""
    asked = [
        {"role": "user", "content": "hello"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm.",
            "tool_calls": [call("call_a", "weather", PARIS)],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "sunny"},
        {"role": "assistant", "content": "Sunny.", "reasoning_details": [{"type": "reasoning.text", "text": "So."}]},
    ]
    ask("api.deepseek.com", whole(content="Hi.", top=LAST), messages=asked)
    _, first, _, second = content(spans.one(), "gen_ai.input.messages")
    assert first["parts"] == [thought("Hm."), called("weather", {"city": "Paris"}, "call_a")]
    assert second["parts"] == [thought("So."), text("Sunny.")]
