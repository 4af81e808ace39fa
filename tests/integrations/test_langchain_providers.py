"""All of LangChain's provider packages: tokens, tool calls, reasoning and streams, each against its provider's API."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.messages import AIMessage, HumanMessage
from langchain_providers import PARIS, PROVIDERS, TOOL, Provider

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # most of these packages close no client of theirs
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

THERE = [
    pytest.param(one, hooked, id=name + (" with its client's hook" if hooked else ""))
    for name, one in PROVIDERS.items()
    if importlib.util.find_spec(one.package) is not None
    for hooked in ([False, True] if one.hook else [False])
]


@pytest.fixture
def hooks(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``hooks(provider, hooked)`` turns the integrations on, for the length of a test."""
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")
    on: list[str] = []

    def turn_on(provider: Provider, hooked: bool) -> None:
        on.extend(["langchain", *([provider.hook] if hooked and provider.hook else [])])
        for name in on:
            getattr(integrations, name).autolog()

    yield turn_on
    for name in on:
        getattr(integrations, name).autolog(disable=True)


def check_span(provider: Provider, spans: Spans, *, hooked: bool) -> None:
    """Check all that the only span of a call says of its answer.

    Gemini's calls have no id but what LangChain gives them; with the client's own hook the answer is as the server
    had it.
    """
    span = spans.one()
    said = dict(span.attributes or {})
    assert said["gen_ai.provider.name"] == provider.name
    told = {name: said.get(f"gen_ai.usage.{name}") for name in provider.usage}
    assert told == provider.usage
    (message,) = content(span, "gen_ai.output.messages")
    kinds = [part["type"] for part in message["parts"]]
    assert kinds == ["reasoning"] * provider.reasons + ["text", "tool_call"]
    *_, text, call = message["parts"]
    assert (text["content"], call["name"], call["arguments"]) == ("Hi.", "get_weather", PARIS)
    assert call.get("id") or (hooked and provider.name == "gcp.gemini")
    assert provider.reasons is False or message["parts"][0]["content"] == "hm"
    (offered,) = content(span, "gen_ai.tool.definitions")
    assert offered["name"] == "get_weather"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("provider", "hooked"), THERE)
def test_each_provider(
    provider: Provider, hooked: bool, streamed: bool, hooks: Any, scripted: Any, spans: Spans
) -> None:
    """One call is one span, with all that its provider has billed and said."""
    hooks(provider, hooked)
    model = provider.make(scripted.base_url.removesuffix("/v1")).bind_tools([TOOL])
    if streamed:
        provider.streamed(scripted)
        assert list(model.stream("Weather in Paris?"))
    else:
        provider.whole(scripted)
        model.invoke("Weather in Paris?")
    check_span(provider, spans, hooked=hooked)


@pytest.mark.parametrize(("provider", "hooked"), THERE)
def test_what_it_said_is_asked_again(provider: Provider, hooked: bool, hooks: Any, scripted: Any, spans: Spans) -> None:
    """The answer as the input of the next call, with the tool's result: the same parts as it had as an output."""
    hooks(provider, hooked)
    model = provider.make(scripted.base_url.removesuffix("/v1")).bind_tools([TOOL])
    provider.whole(scripted)
    first = model.invoke("Weather in Paris?")
    assert isinstance(first, AIMessage)
    call = first.tool_calls[0]
    result = {"role": "tool", "content": "sunny", "tool_call_id": call["id"], "name": call["name"]}
    model.invoke([HumanMessage("Weather in Paris?"), first, result])
    before, after = spans.all
    (answered,) = content(before, "gen_ai.output.messages")
    _, again, told = content(after, "gen_ai.input.messages")
    assert [part["type"] for part in again["parts"]] == [part["type"] for part in answered["parts"]]
    assert again["parts"][-1] == answered["parts"][-1]
    sent = {"output": "sunny"} if hooked and provider.name == "gcp.gemini" else "sunny"  # as Gemini is told it
    assert (told["role"], told["parts"][0]["response"]) == ("tool", sent)


@pytest.mark.parametrize(("provider", "hooked"), THERE)
def test_what_fails(provider: Provider, hooked: bool, hooks: Any, scripted: Any, spans: Spans) -> None:
    """The exception that the caller gets, and no reason that no provider gave."""
    hooks(provider, hooked)
    scripted.reply({"error": {"message": "not today", "type": "no"}, "message": "not today"}, status=400)
    with pytest.raises(Exception) as raised:  # each package has one of its own
        provider.make(scripted.base_url.removesuffix("/v1")).invoke("Hi")
    span = spans.one()
    kind = f"{type(raised.value).__module__}.{type(raised.value).__qualname__}"
    said = dict(span.attributes or {})
    assert (said["error.type"], span.status.status_code.name) == (kind, "ERROR")
    assert "gen_ai.response.finish_reasons" not in said


# The price list's name of a provider, and its model there; None where it has none.
PRICES: dict[str, tuple[str, str] | None] = {
    "anthropic": ("anthropic", "claude-sonnet-4-5"),
    "gcp.gemini": ("google", "gemini-2.5-flash"),
    "aws.bedrock": ("aws", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
    "ollama": None,
    "mistral_ai": ("mistral", "mistral-small-latest"),
    "groq": ("groq", "llama-3.3-70b-versatile"),
}
# Of Anthropic's writes 40 are for an hour, at 6 dollars a million tokens instead of 3.75.
LONG_WRITES = {"anthropic": 40 * (6 - 3.75) / 1_000_000}


@pytest.fixture
def store(mlflow_store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    mlflow.set_tracking_uri(mlflow_store)
    yield mlflow_store
    mlflow.set_tracking_uri(None)


def compute_cost(provider: Provider, *, tells_lifetimes: bool) -> float | None:
    """Return what one answer costs, by the price list; *tells_lifetimes*: whether writes for an hour are known."""
    from reconciled import Price

    listed = PRICES[provider.name]
    if listed is None:
        return None
    read, written = (provider.usage.get(f"cache_{kind}.input_tokens", 0) for kind in ("read", "write"))
    price = Price(*listed, cache_read=read, cache_write=written)
    cost = price.compute_cost((provider.usage["input_tokens"], provider.usage["output_tokens"]))
    return (cost or 0.0) + (LONG_WRITES.get(provider.name, 0) if tells_lifetimes else 0)


@pytest.mark.parametrize(("provider", "hooked"), THERE)
def test_what_was_billed_is_what_is_recorded(
    provider: Provider, hooked: bool, hooks: Any, scripted: Any, store: str, receiver: Any, tracing_off: None
) -> None:
    """Tokens, their price with that of the cache's reads and writes, and what raised, in MLflow and by OTLP."""
    from reconciled import Bill, describe_error, find_differences

    hooks(provider, hooked)
    tracing.configure(tracking_uri=store, otlp_endpoint=receiver.url)
    model = provider.make(scripted.base_url.removesuffix("/v1")).bind_tools([TOOL])
    tokens = provider.usage["input_tokens"], provider.usage["output_tokens"]
    # LangChain's own streams lose for how long a cache was written
    bills = {
        "whole": Bill(tokens, compute_cost(provider, tells_lifetimes=True)),
        "streamed": Bill(tokens, compute_cost(provider, tells_lifetimes=hooked)),
    }
    provider.whole(scripted)
    with tracing.session("whole"):
        model.invoke("Hi")
    scripted.clear()
    provider.streamed(scripted)
    with tracing.session("streamed"):
        assert list(model.stream("Hi"))
    scripted.clear()
    scripted.reply({"error": {"message": "not today", "type": "no"}, "message": "not today"}, status=400)
    with tracing.session("refused"), pytest.raises(Exception) as raised:  # each package has one of its own
        model.invoke("Hi")
    bills["refused"] = Bill((0, 0), None, describe_error(raised.value))
    assert tracing.flush(60)
    differences = find_differences(bills, receiver.bodies)
    assert differences == [], "\n".join(differences)
