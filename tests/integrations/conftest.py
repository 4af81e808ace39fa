"""Clients of OpenAI's API, traced by mlspan."""

from __future__ import annotations

import gc
import inspect
import sys
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
def langgraph_on(spans: Spans) -> Iterator[None]:
    """The hook of LangGraph, for the length of a test, after which nothing is kept of its runs."""
    from mlspan.integrations.langchain.runs import langchain_runs

    integrations.langgraph.autolog()
    yield
    integrations.langgraph.autolog(disable=True)
    gc.collect()
    assert len(langchain_runs) == 0


@pytest.fixture
def litellm_server(scripted: Any, spans: Spans) -> Iterator[Any]:
    """A server for LiteLLM, whose hook is on for the length of a test."""
    integrations.litellm.autolog(log_traces=True)
    scripted.clear()
    yield scripted
    integrations.litellm.autolog(disable=True)


@pytest.fixture
def litellm_where(litellm_server: Any) -> dict[str, Any]:
    """The arguments that name that server."""
    return {"api_base": litellm_server.base_url, "api_key": "test", "max_retries": 0}


@pytest.fixture
def ag2_on(spans: Spans) -> Iterator[None]:
    """The hook of AG2, for the length of a test."""
    integrations.ag2.autolog(log_traces=True)
    yield
    integrations.ag2.autolog(disable=True)


@pytest.fixture
def crewai_on(spans: Spans) -> Iterator[None]:
    """The hook of CrewAI, for the length of a test, after which nothing is kept of its runs."""
    from mlspan.integrations.crewai.runs import crewai_runs

    integrations.crewai.autolog(log_traces=True)
    yield
    integrations.crewai.autolog(disable=True)
    assert len(crewai_runs) == 0


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


@pytest.fixture
def mcp_on(spans: Spans) -> Iterator[None]:
    """The hook of MCP, for the length of a test."""
    integrations.mcp.autolog(log_traces=True)
    yield
    integrations.mcp.autolog(disable=True)


@pytest.fixture(scope="module")
def mcp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An MCP server behind HTTP in a process of its own, one for a whole file."""
    from mcp_kit import SERVER, ServerSpans
    from servers.process import Process, free_port

    folder, port = tmp_path_factory.mktemp("mcp"), free_port()
    served = ServerSpans(folder / "spans.jsonl")
    server = Process([sys.executable, str(SERVER), str(served.path), str(port)], port, folder / "log")
    try:
        server.wait(60)
        served.url = f"http://127.0.0.1:{port}/mcp"
        yield served
    finally:
        server.stop()


@pytest.fixture
def served(mcp_server: Any) -> Any:
    """That server's spans, without those of the tests before."""
    mcp_server.clear()
    return mcp_server
