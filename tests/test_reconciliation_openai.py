"""What was billed is what is recorded, what raised is what has failed: for each way of calling OpenAI's client.

The server's answers say what it bills. That has to be the sum of a trace and the sum over its spans, in MLflow and by
OTLP. The cost is that of the price list for provider, tier and cache, or what the provider says that it charges.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

mlflow = pytest.importorskip("mlflow")
openai = pytest.importorskip("openai")

from genai_prices import Usage, calc_price

from mlspan import integrations, tracing
from mlspan.tracing.export.otlp import codec

HELLO: Any = [{"role": "user", "content": "hello"}]


class Price(NamedTuple):
    """What a call is priced by; *told* is what the provider itself says, in US dollars."""

    provider: str = "openai"
    model: str = "gpt-5-mini"
    tier: str | None = None
    cache_read: int = 0
    cache_write: int = 0
    told: float | None = None
    known: bool = True

    def compute_cost(self, tokens: tuple[int, int]) -> float | None:
        if self.told is not None or not self.known:
            return self.told
        usage = Usage(
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cache_read_tokens=self.cache_read or None,
            cache_write_tokens=self.cache_write or None,
        )
        tier = {"price_context": {"service_tier": self.tier}} if self.tier else {}
        return float(calc_price(usage, self.model, provider_id=self.provider, **tier).total_price)


class Scenario(NamedTuple):
    """A way of calling the client, the server's answers, and what has to be known afterwards."""

    call: Callable[[Any], object]
    answers: list[Any]
    tokens: tuple[int, int]
    price: Price = Price()
    error: tuple[str, str] | None = None
    host: str = "api.openai.com"
    is_async: bool = False


def chat(finish: str = "stop", *, top: Mapping[str, Any] | None = None, **said: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi.", **said}, "finish_reason": finish}
    head = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "gpt-5-mini"}
    return {**head, "choices": [choice], **(top or {})}


def chunk(text: str = "", finish: str | None = None, **top: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish, **top.pop("choice", {})}
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini"}
    return {**head, "choices": [choice], **top}


def usage(given: int, taken: int, total: int | None = None, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": total or given + taken, **more}


def response(status: str = "completed", tokens: tuple[int, int] | None = (20, 9), **more: Any) -> dict[str, Any]:
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5-mini", "status": status}
    billed = None if tokens is None else {"input_tokens": tokens[0], "output_tokens": tokens[1]} | more.pop("usage", {})
    return {**head, "output": [], "tools": [], "usage": billed, **more}


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": 0, **more}


BEGUN = event("response.created", response=response("in_progress", None))
ENDED = [BEGUN, event("response.completed", response=response())]
BROKEN = {"code": "server_error", "message": "It broke."}
CACHED = {"input_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 100}}


def ask(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": "gpt-5-mini", "messages": HELLO, **more})


def read_chat(client: Any) -> None:
    list(ask(client, stream=True))


def leave_chat(client: Any) -> None:
    stream = ask(client, stream=True)
    next(iter(stream))
    stream.close()


def parse_chat(client: Any) -> None:
    from pydantic import create_model

    client.chat.completions.parse(
        model="gpt-5-mini", messages=HELLO, response_format=create_model("City", name=(str, ...))
    )


def respond(client: Any, **more: Any) -> Any:
    return client.responses.create(model="gpt-5-mini", input="hello", **more)


def poll(client: Any) -> None:
    made = respond(client, background=True)
    for _ in range(3):
        client.responses.retrieve(made.id)


def resume(client: Any) -> None:
    stream = respond(client, background=True, stream=True)
    next(stream)
    stream.close()
    list(client.responses.retrieve("resp_1", stream=True, starting_after=0))


def compact(client: Any) -> None:
    client.responses.compact(model="gpt-5-mini", input="a long talk")


def post(client: Any) -> None:
    client.post("chat/completions", body={"model": "gpt-5-mini", "messages": HELLO}, cast_to=object)


def embed(client: Any) -> None:
    client.embeddings.create(model="text-embedding-3-small", input="hello")


async def ask_async(client: Any) -> None:
    await asyncio.gather(*(ask(client) for _ in range(3)))


async def read_async(client: Any) -> None:
    async for _ in await ask(client, stream=True):
        pass


VECTOR = {"object": "list", "model": "text-embedding-3-small", "usage": {"prompt_tokens": 6, "total_tokens": 6}}
VECTOR |= {"data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
DETAILS = {"prompt_tokens_details": {"cached_tokens": 800}, "completion_tokens_details": {"reasoning_tokens": 30}}
LIMIT = {"error": {"message": "Too many requests", "code": "rate_limit_exceeded"}}

SCENARIOS = {
    "chat": Scenario(ask, [chat(top={"usage": usage(1200, 50, **DETAILS)})], (1200, 50), Price(cache_read=800)),
    "chat, streamed": Scenario(read_chat, [[chunk("Hi"), chunk(".", "stop"), chunk(usage=usage(12, 5))]], (12, 5)),
    "chat, usage in every chunk": Scenario(
        read_chat, [[chunk("Hi", usage=usage(12, 1)), chunk(".", "stop", usage=usage(12, 5))]], (12, 5)
    ),
    "chat, left early": Scenario(leave_chat, [[chunk("Hi"), chunk(usage=usage(12, 5))]], (0, 0)),
    "chat, sent again": Scenario(
        lambda client: ask(client.with_options(max_retries=1)),
        [(500, BROKEN), chat(top={"usage": usage(12, 5)})],
        (12, 5),
    ),
    "chat, three at once": Scenario(ask_async, [chat(top={"usage": usage(12, 5)})], (36, 15), is_async=True),
    "chat, streamed, async": Scenario(read_async, [[chunk("Hi"), chunk(usage=usage(12, 5))]], (12, 5), is_async=True),
    "chat, flex": Scenario(
        ask, [chat(top={"usage": usage(1200, 50), "service_tier": "flex"})], (1200, 50), Price(tier="flex")
    ),
    "chat, priority, cached": Scenario(
        ask,
        [chat(top={"usage": usage(1200, 50, **DETAILS), "service_tier": "priority"})],
        (1200, 50),
        Price(tier="priority", cache_read=800),
    ),
    "chat, refused": Scenario(ask, [(429, LIMIT)], (0, 0), error=("openai.RateLimitError", "Too many requests")),
    "chat, too long to parse": Scenario(
        parse_chat,
        [chat("length", top={"usage": usage(12, 5)}, content='{"na')],
        (12, 5),
        error=("openai.LengthFinishReasonError", "length limit was reached"),
    ),
    "chat, an error in the stream": Scenario(
        read_chat, [[chunk("Hi"), {"error": BROKEN}]], (0, 0), error=("openai.APIError", "It broke.")
    ),
    "post": Scenario(post, [chat(top={"usage": usage(12, 5)})], (12, 5)),
    "embeddings": Scenario(embed, [VECTOR], (6, 0), Price(model="text-embedding-3-small")),
    "response": Scenario(
        respond, [response(tokens=(1200, 50), usage=CACHED)], (1200, 50), Price(cache_read=400, cache_write=100)
    ),
    "response, beta": Scenario(lambda client: respond(client.beta), [response()], (20, 9)),
    "response, streamed": Scenario(lambda client: list(respond(client, stream=True)), [ENDED], (20, 9)),
    "response, an error event": Scenario(
        lambda client: list(respond(client, stream=True)),
        [[BEGUN, event("error", **BROKEN)]],
        (0, 0),
        error=("server_error", "It broke."),
    ),
    "response, failed": Scenario(
        respond, [response("failed", (20, 0), error=BROKEN)], (20, 0), error=("server_error", "It broke.")
    ),
    "background": Scenario(
        poll, [response("queued", None), response("in_progress", None), response(tokens=(1000, 400)),
               response(tokens=(1000, 400))], (1000, 400),
    ),
    "background, flex": Scenario(
        poll, [response("queued", None), response(tokens=(1000, 400), service_tier="flex")], (1000, 400),
        Price(tier="flex"),
    ),
    "background, resumed": Scenario(
        resume, [[event("response.created", response=response("queued", None))], ENDED], (20, 9)
    ),
    "background, failed": Scenario(
        poll, [response("queued", None), response("failed", (20, 0), error=BROKEN)], (20, 0),
        error=("server_error", "It broke."),
    ),
    "compaction": Scenario(
        compact,
        [{"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [],
          "usage": {"input_tokens": 5000, "output_tokens": 300}}],
        (5000, 300),
    ),
    "groq": Scenario(
        read_chat,
        [[chunk("Hi", model="llama-3.1-8b-instant"), chunk("", "stop", x_groq={"usage": usage(1200, 50)})]],
        (1200, 50),
        Price("groq", "llama-3.1-8b-instant"),
        host="api.groq.com",
    ),
    "kimi": Scenario(
        read_chat,
        [[chunk("Hi", model="kimi-k2-0905-preview"),
          chunk("", "stop", choice={"usage": usage(1200, 50, cached_tokens=400)})]],
        (1200, 50),
        Price("moonshotai", "kimi-k2-0905-preview", cache_read=400),
        host="api.moonshot.ai",
    ),
    "xai": Scenario(
        ask,
        [chat(top={"model": "grok-4-0709",
                   "usage": usage(12, 2, 331, completion_tokens_details={"reasoning_tokens": 317})})],
        (12, 319),
        Price("x-ai", "grok-4-0709"),
        host="api.x.ai",
    ),
    "openrouter": Scenario(
        ask,
        [chat(top={"model": "openai/gpt-5-mini", "usage": usage(12, 5, cost=0.03)})],
        (12, 5),
        Price(told=0.03),
        host="openrouter.ai",
    ),
    "openrouter, overloaded": Scenario(
        ask,
        [{"error": {"message": "Overloaded", "code": 502}}],
        (0, 0),
        error=("502", "Overloaded"),
        host="openrouter.ai",
    ),
    "a model without a price": Scenario(
        lambda client: ask(client, model="our-own-model"),
        [chat(top={"model": "our-own-model", "usage": usage(12, 5)})],
        (12, 5),
        Price(known=False),
        host="vllm.test",
    ),
}  # fmt: skip


def make_client(scenario: Scenario) -> Any:
    """Return a client whose server gives the scenario's answers, the last of them again and again."""
    httpx: Any = __import__("httpx2" if openai.__version__ >= "3" else "httpx")
    left = list(scenario.answers)

    def reply(_: Any) -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, list):
            events = "".join(f"data: {json.dumps(one)}\n\n" for one in answer) + "data: [DONE]\n\n"
            return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, json=body, headers={"retry-after-ms": "1"})

    transport, known = httpx.MockTransport(reply), {"base_url": f"https://{scenario.host}/v1", "api_key": "x"}
    if scenario.is_async:
        return openai.AsyncOpenAI(http_client=httpx.AsyncClient(transport=transport), max_retries=0, **known)
    return openai.OpenAI(http_client=httpx.Client(transport=transport), max_retries=0, **known)


def run(scenario: Scenario) -> bool:
    """Run a scenario; return whether this version of the client has what it calls."""
    client = make_client(scenario)
    with contextlib.suppress(openai.OpenAIError):
        try:
            if scenario.is_async:
                asyncio.run(_run_async(client, scenario.call))
            else:
                scenario.call(client)
                client.close()
        except (AttributeError, TypeError):
            return False
    return True


async def _run_async(client: Any, call: Any) -> None:
    async with client:
        await call(client)


class Recorded(NamedTuple):
    """What one backend has of a scenario: tokens by trace and by span, cost, and errors as type and text."""

    tokens: tuple[int, int]
    tokens_of_spans: tuple[int, int]
    cost: float | None
    errors: set[tuple[str, str]]


def sum_tokens(spans: Iterable[tuple[str, str | None, tuple[int, int] | None]]) -> tuple[int, int]:
    """Return the sum over spans that count: those with tokens that are below no other span with tokens."""
    known = {id: (parent, tokens) for id, parent, tokens in spans}
    total = [0, 0]
    for parent, tokens in known.values():
        above: str | None = parent
        while above in known and known[above][1] is None:
            above = known[above][0]
        if tokens is not None and above not in known:
            total = [total[0] + tokens[0], total[1] + tokens[1]]
    return total[0], total[1]


def read_mlflow(ids: Iterable[str]) -> Recorded:
    tokens, of_spans, cost, errors = (0, 0), (0, 0), None, set()
    for id in ids:
        trace = mlflow.get_trace(f"tr-{id}")
        found = trace.info.token_usage or {}
        tokens = tokens[0] + found.get("input_tokens", 0), tokens[1] + found.get("output_tokens", 0)
        rows = []
        for span in trace.data.spans:
            counted = span.get_attribute("mlflow.chat.tokenUsage")
            rows.append((span.span_id, span.parent_id, counted and (counted["input_tokens"], counted["output_tokens"])))
            for each in span.events:
                if each.name == "exception":
                    errors.add((str(each.attributes["exception.type"]), str(each.attributes["exception.message"])))
        more = sum_tokens(rows)
        of_spans = of_spans[0] + more[0], of_spans[1] + more[1]
        told = json.loads(trace.info.trace_metadata.get("mlflow.trace.cost", "{}")).get("total_cost")
        cost = cost if told is None else (cost or 0.0) + told
        assert (trace.info.state.value == "ERROR") == any(
            span.status.status_code.value == "ERROR" for span in trace.data.spans
        )
    return Recorded(tokens, of_spans, cost, errors)


def read_otlp(spans: list[Any]) -> Recorded:
    rows, errors = [], set()
    for span in spans:
        attributes = span.attributes
        counts = [attributes.get(f"gen_ai.usage.{kind}_tokens") for kind in ("input", "output")]
        counted = None if counts == [None, None] else (counts[0] or 0, counts[1] or 0)
        parent = format(span.parent.span_id, "016x") if span.parent else None
        rows.append((format(span.context.span_id, "016x"), parent, counted))
        if span.status.status_code.name == "ERROR":
            errors.add((attributes["error.type"], span.status.description))
    return Recorded(sum_tokens(rows), sum_tokens(rows), None, errors)


def find_problems(name: str, scenario: Scenario, recorded: Recorded, where: str) -> Iterator[str]:
    if recorded.tokens != scenario.tokens or recorded.tokens_of_spans != scenario.tokens:
        yield f"{name}: billed {scenario.tokens}, {where} has {recorded.tokens} and by span {recorded.tokens_of_spans}"
    if scenario.error is None:
        if recorded.errors:
            yield f"{name}: no error, {where} has {recorded.errors}"
    elif [(kind, scenario.error[1] in text) for kind, text in recorded.errors] != [(scenario.error[0], True)]:
        yield f"{name}: error {scenario.error}, {where} has {recorded.errors}"


@pytest.fixture
def store(mlflow_store: str, tracing_off: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("MLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    mlflow.set_tracking_uri(mlflow_store)
    yield mlflow_store
    mlflow.set_tracking_uri(None)


def test_what_was_billed_is_what_is_recorded(store: str, receiver: Any) -> None:
    tracing.configure(tracking_uri=store, otlp_endpoint=receiver.url)
    integrations.openai.autolog()
    there = {}
    for name, scenario in SCENARIOS.items():
        with tracing.session(name):
            if run(scenario):
                there[name] = scenario
    assert tracing.flush(60)
    sent = [codec.decode_span(one) for body in receiver.bodies for one in codec.split_export_request(body)]
    problems = []
    for name, scenario in there.items():
        spans = [span for span in sent if (span.attributes or {}).get("session.id") == name]
        by_mlflow = read_mlflow({format(span.context.trace_id, "032x") for span in spans})
        problems += [*find_problems(name, scenario, by_mlflow, "MLflow")]
        problems += [*find_problems(name, scenario, read_otlp(spans), "OTLP")]
        cost = scenario.price.compute_cost(scenario.tokens) if any(scenario.tokens) else None
        if by_mlflow.cost != (None if cost is None else pytest.approx(cost)):
            problems.append(f"{name}: costs {cost}, MLflow has {by_mlflow.cost}")
    assert problems == [], "\n".join(problems)
    assert len(there) > 20
