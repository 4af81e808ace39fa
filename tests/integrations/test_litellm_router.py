"""LiteLLM's Router and fallbacks, its prices, its callbacks, and its proxy as a process of its own."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import pytest
from litellm_kit import executor, litellm
from openai_chunks import ANSWER, HELLO, REFUSAL, WHOLE

from mlspan import integrations
from mlspan.testing import Spans
from mlspan.tracing.export.cost import compute_span_cost
from mlspan.tracing.operations import semconv as sc

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # LiteLLM's own


def read_attributes(spans: Spans, name: str | None = None) -> dict[str, Any]:
    span = spans.one() if name is None else spans.named(name)[-1]
    return dict(span.attributes or {})


def make_router(litellm_where: Any) -> Any:
    groups = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", **litellm_where}} for name in ("bad", "good")
    ]
    return litellm.Router(model_list=groups, fallbacks=[{"bad": ["good"]}], num_retries=0)


ROUTED = ["route bad", "  chat bad [ERROR litellm.exceptions.BadRequestError]", "  chat good [12 in, 5 out]"]


@pytest.mark.parametrize("clients_hook", [False, True])
def test_a_router_with_fallbacks(clients_hook: bool, litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    """Each try is a span below the Router's; a request of the client's is the same call, whoever else traces it."""
    router = make_router(litellm_where)
    integrations.openai.autolog(disable=not clients_hook, log_traces=True)
    litellm_server.reply(REFUSAL, status=400)
    litellm_server.reply(ANSWER)
    assert router.completion("bad", HELLO).choices[0].message.content == "One two."
    integrations.openai.autolog(disable=True)
    assert spans.tree().splitlines() == ROUTED
    assert read_attributes(spans, "route bad")["mlspan.output"] == "One two."


def test_an_asynchronous_router_with_a_stream(litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    """The Router's span lasts until its stream has ended, also where the first try fails."""
    router = make_router(litellm_where)
    litellm_server.reply(REFUSAL, status=400)
    litellm_server.stream(*WHOLE)

    async def read() -> int:
        stream = await router.acompletion("bad", HELLO, stream=True, stream_options={"include_usage": True})
        return len([chunk async for chunk in stream])

    assert asyncio.run(read()) >= 3
    assert spans.tree().splitlines() == ROUTED
    assert read_attributes(spans, "route bad")["mlspan.output"] == "One two."


def test_fallbacks_of_one_call(litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    litellm_server.reply(REFUSAL, status=400)
    litellm_server.reply(ANSWER)
    litellm.completion(model="openai/bad", messages=HELLO, fallbacks=["openai/good"], **litellm_where)
    assert [line.strip() for line in spans.tree().splitlines()][1:] == [line.strip() for line in ROUTED[1:]]


def test_retries_are_one_call(litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    litellm_server.reply(REFUSAL, status=500)
    litellm_server.reply(ANSWER)
    litellm.completion(model="openai/m", messages=HELLO, num_retries=2, **litellm_where)
    assert spans.tree() == "chat m [12 in, 5 out]"


def test_litellms_cost_counts_where_no_other_is_known(litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    """Our price list comes first, then LiteLLM's, and what is found in its cache costs nothing."""
    prices = {"input_cost_per_token": 0.5, "output_cost_per_token": 1.0}
    litellm_server.reply(ANSWER)
    litellm.completion(model="openai/our-own", messages=HELLO, **prices, **litellm_where)
    got = read_attributes(spans)
    assert compute_span_cost(got) == {"total_cost": 11.0}
    listed = compute_span_cost({**got, sc.RESPONSE_MODEL: "gpt-4o"})
    assert listed is not None
    assert listed["total_cost"] < 1


def test_an_answer_out_of_the_cache_costs_nothing(litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    if importlib.util.find_spec("fastapi") and not importlib.util.find_spec("soundfile"):
        pytest.skip("where FastAPI is there, LiteLLM's cache takes in the proxy, and all that this needs")
    litellm.cache = litellm.Cache(type="local")
    try:
        litellm_server.reply({**ANSWER, "model": "gpt-4o"})
        for _ in range(2):
            litellm.completion(model="openai/gpt-4o", messages=HELLO, caching=True, **litellm_where)
    finally:
        litellm.cache = None
    first, second = (compute_span_cost(dict(span.attributes or {})) for span in spans.named("chat gpt-4o"))
    assert first is not None
    assert first["total_cost"] > 0
    assert second == {"total_cost": 0.0}
    assert len(litellm_server.requests) == 1


def test_callbacks_of_the_callers_are_left_alone(litellm_server: Any, litellm_where: Any) -> None:
    """They are called, and nothing of ours is among them."""
    seen: list[Any] = []
    litellm.success_callback = [lambda *args: seen.append(args)]
    try:
        before = list(litellm.callbacks)
        litellm_server.reply(ANSWER)
        litellm.completion(model="openai/m", messages=HELLO, **litellm_where)
        executor.submit(int).result(10)
        assert litellm.callbacks == before
        assert len(litellm.success_callback) == 1
    finally:
        litellm.success_callback = []
