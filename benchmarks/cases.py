"""What is measured, as a table. A case prepares its variants, times them and tells its figures by name."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any, TypedDict

import openai
from harness import Apart, Counting, Time, bare_span, turns
from openai.types.chat import ChatCompletionChunk
from opentelemetry import trace

try:  # what the client speaks HTTP with
    import httpx2 as http
except ImportError:
    import httpx as http

CHUNKS = 200
MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the weather?"}]
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-mini"}
ANSWER = {"role": "assistant", "content": "Sunny, 21 degrees."}
CHOICE = {"index": 0, "finish_reason": "stop", "message": ANSWER}
WHOLE = {**HEAD, "object": "chat.completion", "usage": USAGE, "choices": [CHOICE]}
CHUNK = {**HEAD, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "word "}}]}
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
    span.set_attribute("gen_ai.usage.input_tokens", got.usage.prompt_tokens if got.usage else 0)
    span.set_attribute("gen_ai.usage.output_tokens", got.usage.completion_tokens if got.usage else 0)
    span.set_attribute("gen_ai.input.messages", json.dumps(asked))
    span.set_attribute("gen_ai.output.messages", json.dumps([{**said, "finish_reason": choice.finish_reason}]))


def added(times: dict[str, Time]) -> dict[str, Time]:
    bare = times["bare"]
    return {"bare": bare, "floor": times["hand"].over(bare), "added": times["watched"].over(bare)}


def chat(setting: Setting) -> dict[str, Time]:
    bare = bare_client()
    setting["turn_on"]()
    watched, tracer = client(), setting["tracer"]
    variants = {"bare": lambda: call(bare), "hand": lambda: by_hand(bare, tracer), "watched": lambda: call(watched)}
    _expect_spans(setting, variants["watched"])
    return added(turns(variants, setting["rounds"]))


def chat_async(setting: Setting) -> dict[str, Time]:
    bare = bare_client("AsyncOpenAI")
    setting["turn_on"]()
    watched, loop = client("AsyncOpenAI"), asyncio.new_event_loop()
    variants = {
        "bare": lambda: loop.run_until_complete(call(bare)),
        "hand": lambda: loop.run_until_complete(by_hand_async(bare, setting["tracer"])),
        "watched": lambda: loop.run_until_complete(call(watched)),
    }
    _expect_spans(setting, variants["watched"])
    return added(turns(variants, setting["rounds"]))


def stream(setting: Setting) -> dict[str, Time]:
    """What each chunk adds: by the difference between a stream of 200 and one of one."""
    chunks = [ChatCompletionChunk.model_validate(CHUNK) for _ in range(CHUNKS)]
    few: list[Any] = []

    def request(client: Any, cast_to: Any, _: Any, *, stream_cls: Any = None, **_more: Any) -> Any:
        return (stream_cls or openai.Stream)(cast_to=cast_to, client=client, response=http.Response(200))

    # Reading and decoding a chunk takes a hundred times what is to be measured, so the chunks are at hand.
    openai.Stream.__stream__ = lambda _: iter(few or chunks)
    openai.OpenAI.request = request
    bare = bare_client()
    setting["turn_on"]()
    watched = client()

    def read(client: Any) -> None:
        for _ in client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True):
            pass

    _expect_spans(setting, lambda: read(watched))
    variants = {"bare": lambda: read(bare), "watched": lambda: read(watched)}
    whole = turns(variants, setting["rounds"])
    few.append(chunks[0])
    one = turns(variants, setting["rounds"])
    of_call = one["watched"].over(one["bare"])
    return {"chunk": whole["watched"].over(whole["bare"]).over(of_call, CHUNKS - 1)}


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


def _spans_each(setting: Setting, make: Callable[[], Any], run: Callable[[Any], object]) -> dict[str, Time]:
    """What each span adds to a run, beside the least that any span costs."""
    bare = make()
    run(bare)
    apart = Apart(lambda: run(bare))
    setting["turn_on"]()
    watched = make()
    spans = _expect_spans(setting, lambda: run(watched))
    times = turns({"bare": apart, "watched": lambda: run(watched)}, setting["rounds"])
    least = turns({"span": lambda: bare_span(setting["tracer"])}, 2000)["span"]
    return {"span": times["watched"].over(times["bare"], spans), "least": least, "spans": Time(spans, spans)}


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
}
