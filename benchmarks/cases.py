"""What is measured, as a table. A case prepares its variants, times them and returns its figures by name."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypedDict

import openai
from harness import Counting, ForkedVariant, Time, bare_span, turns
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from opentelemetry import trace

try:  # what the client speaks HTTP with
    import httpx2 as http
except ImportError:
    import httpx as http

CHUNKS = 200
MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the weather?"}]
# An answer as OpenAI's API gives it, whole: some of those measured here raise, and catch, where a part is missing.
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
HEAD = {
    "id": "chatcmpl-1",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "system_fingerprint": "fp_1",
}
ANSWER = {"role": "assistant", "content": "Sunny, 21 degrees.", "refusal": None, "annotations": []}
CHOICE = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": ANSWER}
WHOLE = {**HEAD, "object": "chat.completion", "usage": USAGE, "choices": [CHOICE]}
SAID = {"index": 0, "delta": {"content": "word "}, "logprobs": None, "finish_reason": None}
CHUNK = {**HEAD, "object": "chat.completion.chunk", "usage": None, "choices": [SAID]}
LAST = {**CHUNK, "choices": [{**SAID, "delta": {}, "finish_reason": "stop"}]}
BODY = json.dumps(WHOLE).encode()


class Setting(TypedDict):
    """What a case is given."""

    turn_on: Callable[[], None]  # the instrumentation; from then on it is in what ``import`` gives
    tracer: trace.Tracer
    counting: Counting
    rounds: int


def client(kind: str = "OpenAI") -> Any:
    """A client whose network is a transport that answers at once."""

    def answer(_: Any) -> Any:
        return http.Response(200, headers={"Content-Type": "application/json"}, content=BODY)

    stub = (http.AsyncClient if kind.startswith("Async") else http.Client)(transport=http.MockTransport(answer))
    return getattr(openai, kind)(base_url="http://127.0.0.1/v1", api_key="x", http_client=stub)


def bare_client(kind: str = "OpenAI") -> Any:
    """One that nobody watches, made before anybody does: it keeps the methods that are patched on its classes."""
    made = client(kind)
    made.request = made.request
    made.chat.completions.create = made.chat.completions.create
    return made


def call(client: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, temperature=0.0)


def by_hand(client: Any, tracer: trace.Tracer) -> None:
    """The floor: the same attributes on a span that somebody has written around the call."""
    with tracer.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT) as span:
        describe(span, call(client))


async def by_hand_async(client: Any, tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT) as span:
        describe(span, await call(client))


def describe(span: trace.Span, got: Any) -> None:
    asked = [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in MESSAGES]
    choice = got.choices[0]
    said = {"role": "assistant", "parts": [{"type": "text", "content": choice.message.content}]}
    span.set_attribute("gen_ai.operation.name", "chat")
    span.set_attribute("gen_ai.provider.name", "openai")
    span.set_attribute("gen_ai.request.model", "gpt-4o-mini")
    span.set_attribute("gen_ai.request.temperature", 0.0)
    span.set_attribute("server.address", "127.0.0.1")
    span.set_attribute("server.port", 80)
    span.set_attribute("openai.api.type", "chat_completions")
    span.set_attribute("gen_ai.response.id", got.id)
    span.set_attribute("gen_ai.response.model", got.model)
    span.set_attribute("gen_ai.response.finish_reasons", [choice.finish_reason])
    span.set_attribute("openai.response.service_tier", got.service_tier)
    span.set_attribute("openai.response.system_fingerprint", got.system_fingerprint)
    span.set_attribute("gen_ai.usage.input_tokens", got.usage.prompt_tokens)
    span.set_attribute("gen_ai.usage.output_tokens", got.usage.completion_tokens)
    span.set_attribute("gen_ai.usage.cache_read.input_tokens", got.usage.prompt_tokens_details.cached_tokens)
    span.set_attribute("gen_ai.usage.audio.input_tokens", got.usage.prompt_tokens_details.audio_tokens)
    span.set_attribute("gen_ai.usage.reasoning.output_tokens", got.usage.completion_tokens_details.reasoning_tokens)
    span.set_attribute("gen_ai.usage.audio.output_tokens", got.usage.completion_tokens_details.audio_tokens)
    span.set_attribute("gen_ai.input.messages", json.dumps(asked))
    span.set_attribute("gen_ai.output.messages", json.dumps([{**said, "finish_reason": choice.finish_reason}]))


def _of_the_floor(setting: Setting, variants: dict[str, Callable[[], object]]) -> dict[str, Time]:
    """What a span by hand and what being traced adds; ours has to be the very span that was written by hand."""
    _expect_spans(setting, variants["traced"])
    ours = setting["counting"].last
    _expect_spans(setting, variants["hand"])
    if ours.instrumentation_scope.name.startswith("mlspan"):
        assert _describe_span(ours) == _describe_span(setting["counting"].last), "not the span that the floor is"
    times = turns(variants, setting["rounds"])
    bare = times["bare"]
    return {"bare": bare, "floor": times["hand"].over(bare), "added": times["traced"].over(bare)}


def _describe_span(span: Any) -> dict[str, Any]:
    """All that a span says, but for where JSON has spaces."""
    said = {name: json.loads(value) if name.endswith(".messages") else value for name, value in span.attributes.items()}
    return {**said, "name": span.name, "kind": span.kind, "status": span.status.status_code, "events": span.events}


def chat(setting: Setting) -> dict[str, Time]:
    bare = bare_client()
    setting["turn_on"]()
    traced, tracer = client(), setting["tracer"]
    variants = {"bare": lambda: call(bare), "hand": lambda: by_hand(bare, tracer), "traced": lambda: call(traced)}
    return _of_the_floor(setting, variants)


def chat_async(setting: Setting) -> dict[str, Time]:
    bare = bare_client("AsyncOpenAI")
    setting["turn_on"]()
    traced, loop = client("AsyncOpenAI"), asyncio.new_event_loop()
    variants = {
        "bare": lambda: loop.run_until_complete(call(bare)),
        "hand": lambda: loop.run_until_complete(by_hand_async(bare, setting["tracer"])),
        "traced": lambda: loop.run_until_complete(call(traced)),
    }
    return _of_the_floor(setting, variants)


def stream(setting: Setting) -> dict[str, Time]:
    """What each chunk adds: by the difference between a stream of 200 and one of two."""
    chunks = [ChatCompletionChunk.model_validate(each) for each in [CHUNK] * (CHUNKS - 1) + [LAST]]
    few: list[Any] = []

    def request(client: Any, cast_to: Any, _: Any, *, stream_cls: Any = None, **_more: Any) -> Any:
        return (stream_cls or openai.Stream)(cast_to=cast_to, client=client, response=http.Response(200))

    # Reading and decoding a chunk takes a hundred times what is to be measured, so the chunks are at hand.
    openai.Stream.__stream__ = lambda _: iter(few or chunks)
    openai.OpenAI.request = request
    bare = bare_client()
    setting["turn_on"]()
    traced = client()

    def read(client: Any) -> None:
        for _ in client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True):
            pass

    _expect_spans(setting, lambda: read(traced))
    variants = {"bare": lambda: read(bare), "traced": lambda: read(traced)}
    whole = turns(variants, setting["rounds"])
    few.extend(chunks[-2:])
    two = turns(variants, setting["rounds"])
    of_call = two["traced"].over(two["bare"])
    return {"chunk": whole["traced"].over(whole["bare"]).over(of_call, CHUNKS - len(few))}


def langchain(setting: Setting) -> dict[str, Time]:
    """A chain of two functions, a model and a parser: five spans."""

    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda

    def chain() -> Any:
        model = GenericFakeChatModel(messages=itertools.repeat(AIMessage(content="Sunny, 21 degrees.")))
        prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")])
        return RunnableLambda(lambda question: {"question": question}) | prompt | model | StrOutputParser()

    return _spans_each(setting, chain, lambda made: made.invoke("What is the weather?"))


def langgraph(setting: Setting) -> dict[str, Time]:
    """A graph of three nodes."""

    from langgraph.graph import StateGraph

    def graph() -> Any:
        made = StateGraph(dict)
        for name in ("plan", "act", "tell"):
            made.add_node(name, lambda state, name=name: {**state, name: "done"})
        made.add_edge("plan", "act")
        made.add_edge("act", "tell")
        made.set_entry_point("plan")
        return made.compile()

    return _spans_each(setting, graph, lambda made: made.invoke({"question": "What is the weather?"}))


def llama_index(setting: Setting) -> dict[str, Time]:
    """A question to an index in memory: a query, a retrieval, an embedding and a completion."""

    from llama_index.core import Document, MockEmbedding, VectorStoreIndex
    from llama_index.core.llms import MockLLM

    def engine() -> Any:
        documents = [Document(text="Cats purr."), Document(text="Dogs bark.")]
        index = VectorStoreIndex.from_documents(documents, embed_model=MockEmbedding(embed_dim=8))
        return index.as_query_engine(llm=MockLLM(max_tokens=3))

    return _spans_each(setting, engine, lambda made: made.query("What do cats do?"))


def autogen(setting: Setting) -> dict[str, Time]:
    """An agent that asks a tool, and a model twice: AutoGen's model of OpenAI, over a client that answers at once."""

    from autogen_agentchat.agents import AssistantAgent
    from autogen_core import CancellationToken
    from autogen_ext.models.openai import BaseOpenAIChatCompletionClient

    asked = {"type": "function", "id": "call_1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    asks = {"index": 0, "finish_reason": "tool_calls", "message": {**ANSWER, "content": None, "tool_calls": [asked]}}
    answers = [ChatCompletion.model_validate({**WHOLE, "choices": [choice]}) for choice in (asks, CHOICE)]
    capabilities = {"vision": False, "function_calling": True, "json_output": True, "structured_output": True}

    async def weather(city: str) -> str:  # one that is no coroutine runs in a thread, which no fork takes along
        """The weather in a city."""
        return f"Sunny in {city}."

    def agent() -> Any:
        turn = itertools.cycle(answers)

        async def create(**_: Any) -> Any:
            return next(turn)

        client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
        model = BaseOpenAIChatCompletionClient(
            client, create_args={"model": HEAD["model"]}, model_info={**capabilities, "family": "gpt-4o"}
        )
        made = AssistantAgent("scout", model, tools=[weather], reflect_on_tool_use=True)
        return made, asyncio.new_event_loop()

    async def ask(agent: Any) -> None:
        await agent.on_reset(CancellationToken())  # each run is the first
        await agent.run(task="What is the weather in Oslo?")

    return _spans_each(setting, agent, lambda made: made[1].run_until_complete(ask(made[0])))


def _spans_each(setting: Setting, make: Callable[[], Any], run: Callable[[Any], object]) -> dict[str, Time]:
    """What a run adds, and what that is for each of its spans, beside the least that any span costs."""
    bare = make()
    run(bare)
    forked = ForkedVariant(lambda: run(bare))
    setting["turn_on"]()
    traced = make()
    spans = _expect_spans(setting, lambda: run(traced))
    times = turns({"bare": forked, "traced": lambda: run(traced)}, setting["rounds"])
    least = turns({"span": lambda: bare_span(setting["tracer"])}, 2000)["span"]
    adds = times["traced"].over(times["bare"])
    each = times["traced"].over(times["bare"], spans)
    return {"bare": times["bare"], "adds": adds, "spans": Time(spans, spans), "each": each, "least": least}


def _expect_spans(setting: Setting, run: Callable[[], object]) -> int:
    """How many spans a run ends; none would be no measurement."""
    run()
    before = setting["counting"].ended
    run()
    spans = setting["counting"].ended - before
    assert spans > 0, "not a single span"
    return spans


CASES: dict[str, Callable[[Setting], dict[str, Time]]] = {
    "chat": chat,
    "async": chat_async,
    "stream": stream,
    "langchain": langchain,
    "langgraph": langgraph,
    "llama_index": llama_index,
    "autogen": autogen,
}
