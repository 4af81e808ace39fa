"""What was billed is what is recorded, what raised is what has failed: for each way of calling OpenAI's client.

The server's answers say what it bills; ``tests/reconciled.py`` states what has to be recorded of it. The cost is that
of the price list for provider, tier and cache, or what the provider says that it charges.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

mlflow = pytest.importorskip("mlflow")
openai = pytest.importorskip("openai")

from reconciled import Bill, Price, describe_error, find_differences

from mlspan import integrations, tracing

HELLO: Any = [{"role": "user", "content": "hello"}]


class Scenario(NamedTuple):
    """A way of calling the client, the server's answers, and what has to be known afterwards.

    The text of *error* is a part of what raises; of what fails without raising it is all.
    """

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


def run(scenario: Scenario) -> Bill | None:
    """Run a scenario and return what it was billed; None if this version of the client lacks what it calls."""
    client, raised = make_client(scenario), None
    try:
        if scenario.is_async:
            asyncio.run(_run_async(client, scenario.call))
        else:
            scenario.call(client)
            client.close()
    except (AttributeError, TypeError):
        return None
    except openai.OpenAIError as error:
        raised = describe_error(error)
        assert scenario.error is not None
        assert (raised[0], scenario.error[1] in raised[1]) == (scenario.error[0], True)
    cost = scenario.price.compute_cost(scenario.tokens) if any(scenario.tokens) else None
    return Bill(scenario.tokens, cost, raised or scenario.error)


async def _run_async(client: Any, call: Any) -> None:
    async with client:
        await call(client)


@pytest.fixture
def store(mlflow_store: str, tracing_off: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("MLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    mlflow.set_tracking_uri(mlflow_store)
    yield mlflow_store
    mlflow.set_tracking_uri(None)


def test_what_was_billed_is_what_is_recorded(store: str, receiver: Any) -> None:
    tracing.configure(tracking_uri=store, otlp_endpoint=receiver.url)
    integrations.openai.autolog()
    bills = {}
    for name, scenario in SCENARIOS.items():
        with tracing.session(name):
            if (bill := run(scenario)) is not None:
                bills[name] = bill
    assert tracing.flush(60)
    differences = find_differences(bills, receiver.bodies)
    assert differences == [], "\n".join(differences)
    assert len(bills) > 20
