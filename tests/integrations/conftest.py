"""Clients of OpenAI's API, traced by mlspan."""

from __future__ import annotations

import gc
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

pytest.register_assert_rewrite("classic")

from mlspan import integrations
from mlspan.testing import Spans


@pytest.fixture
def openai_on(spans: Spans) -> Iterator[None]:
    """The hook of the OpenAI client, for the length of a test."""
    integrations.openai.autolog(log_traces=True)
    yield
    integrations.openai.autolog(disable=True)


@pytest.fixture
def ag2_on(spans: Spans) -> Iterator[None]:
    """The hook of AG2, for the length of a test."""
    integrations.ag2.autolog(log_traces=True)
    yield
    integrations.ag2.autolog(disable=True)


@pytest.fixture
def autogen_on(spans: Spans) -> Iterator[None]:
    """The hook of AutoGen, for the length of a test."""
    integrations.autogen.autolog(log_traces=True)
    yield
    integrations.autogen.autolog(disable=True)


@pytest.fixture
async def model(aimock: str) -> AsyncIterator[Any]:
    """AutoGen's client of the server that we did not write."""
    from autogen_kit import openai_model

    client = openai_model(aimock)
    yield client
    await client.close()


@pytest.fixture
def client(aimock: str) -> Iterator[Any]:
    """A client of the server that we did not write."""
    import openai

    with openai.OpenAI(base_url=aimock, api_key="test", max_retries=0) as client:
        yield client


@pytest.fixture
def scripted_client(scripted: Any) -> Iterator[Any]:
    """A client of the server that answers what the test says."""
    import openai

    with openai.OpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as client:
        yield client


@pytest.fixture
def needs() -> Callable[[Any, str], None]:
    """``needs(create, "stream")`` skips the test where this version's method does not take the argument."""

    def check(method: Any, argument: str) -> None:
        if argument not in inspect.signature(method).parameters:
            pytest.skip(f"this version's {method.__qualname__} takes no {argument}")

    return check


@pytest.fixture
def llama_on(spans: Spans, request: pytest.FixtureRequest) -> Iterator[None]:
    """The hook of LlamaIndex, and that of the OpenAI client where the test's parameter says so."""
    from mlspan.integrations.llama_index import handlers, streams, workflows

    integrations.llama_index.autolog(log_traces=True)
    if getattr(request, "param", None) == "with openai":
        integrations.openai.autolog(log_traces=True, include_usage=True)
    yield
    integrations.llama_index.autolog(disable=True)
    integrations.openai.autolog(disable=True)
    gc.collect()
    assert handlers.handler_failures == []  # LlamaIndex keeps silent about what its handlers raise
    handlers.handler_failures.clear()
    left = (workflows.dispatched_calls, workflows.workflow_runs, handlers._cancelled_calls)
    assert [len(one) for one in (*left, streams._returned_streams, streams._unread_chat_answers)] == [0] * 5


@pytest.fixture
def both(request: pytest.FixtureRequest) -> bool:
    return "with openai" in request.node.name


@pytest.fixture
async def llama_openai() -> AsyncIterator[Callable[..., Any]]:
    """``llama_openai(base_url)``: LlamaIndex's OpenAI, or another *cls* of its package, with clients that end."""
    import openai
    from llama_index.llms.openai import OpenAI

    with openai.DefaultHttpxClient() as client:
        async with openai.DefaultAsyncHttpxClient() as async_client:
            ask: Any = {"api_key": "test", "max_retries": 0, "http_client": client, "async_http_client": async_client}
            yield lambda url, cls=OpenAI, model="gpt-4o-mini", **more: cls(model=model, api_base=url, **ask, **more)
