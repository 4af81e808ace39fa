"""Another tracer's proxies around streams of OpenAI's client: the caller reads them as without us, and we read once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import wrapt
from openai_chunks import WHOLE

from mlspan.testing import Spans, content
from mlspan.tracing.manual import begin
from mlspan.tracing.operations.records import Chat

HELLO: Any = [{"role": "user", "content": "hello"}]
TEXT = "chat m [12 in, 5 out]"

pytestmark = pytest.mark.usefixtures("openai_on")


class Proxy(wrapt.ObjectProxy):  # type: ignore[misc]
    """Can be read in both ways, whatever is inside, as OpenInference's."""

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.__wrapped__.__next__()

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return await self.__wrapped__.__anext__()


@pytest.fixture
async def aclient(scripted: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as client:
        yield client


def said(spans: Spans) -> str:
    (message,) = content(spans.one(), "gen_ai.output.messages")
    return "".join(part["content"] for part in message["parts"])


def replace_parsed(response: Any) -> None:
    """Parse the answer and put a proxy into the client's cache, as a tracer does that wraps the call from outside."""
    parsed = response.parse()
    cache = response._parsed_by_type
    for key in list(cache):
        cache[key] = Proxy(parsed)


def test_a_proxy_around_our_stream(scripted_client: openai.OpenAI, scripted: Any, spans: Spans) -> None:
    scripted.stream(*WHOLE)
    response = scripted_client.chat.completions.with_raw_response.create(model="m", messages=HELLO, stream=True)
    replace_parsed(response)
    stream = response.parse()
    assert isinstance(stream, openai.Stream)
    assert type(stream) is Proxy
    assert len(list(stream)) == 4
    assert (spans.tree(), said(spans)) == (TEXT, "One two.")


async def test_a_proxy_around_our_async_stream(aclient: openai.AsyncOpenAI, scripted: Any, spans: Spans) -> None:
    scripted.stream(*WHOLE)
    response = await aclient.chat.completions.with_raw_response.create(model="m", messages=HELLO, stream=True)
    replace_parsed(response)
    stream = response.parse()
    assert len([chunk async for chunk in stream]) == 4
    assert (spans.tree(), said(spans)) == (TEXT, "One two.")


async def test_a_proxy_inside_of_ours(aclient: openai.AsyncOpenAI, scripted: Any, spans: Spans) -> None:
    """A stream that claims both kinds is of the kind of the call, also when it is parsed from a raw response."""
    scripted.stream(*WHOLE)
    response = await aclient.chat.completions.with_raw_response.create(model="m", messages=HELLO, stream=True)
    own: Any = response._mlspan_own
    parsed = own.parse()
    for key in list(own._parsed_by_type):
        own._parsed_by_type[key] = Proxy(parsed)
    stream = response.parse()
    assert isinstance(stream, openai.AsyncStream)
    assert len([chunk async for chunk in stream]) == 4
    assert (spans.tree(), said(spans)) == (TEXT, "One two.")


@pytest.mark.any_span
def test_a_proxy_keeps_its_class(spans: Spans) -> None:
    """What a stream says that it is, it says through our proxy too."""

    class Answers:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            raise StopIteration

    operation = begin(Chat(model="m"))
    assert operation is not None
    stream: Any = operation.record_result(Proxy(Answers()))
    assert isinstance(stream, Answers)
    assert list(stream) == []
    assert spans.tree() == "chat m"


def test_a_stream_that_another_tracer_parses_and_leaves(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans
) -> None:
    """It is dropped while the caller reads the lines: the call is not over yet."""
    scripted.stream(*WHOLE)
    create = scripted_client.chat.completions.with_streaming_response.create
    with create(model="m", messages=HELLO, stream=True) as response:
        response.parse()
        assert len([line for line in response.iter_lines() if line]) == 5
    assert (spans.tree(), said(spans)) == (TEXT, "One two.")
