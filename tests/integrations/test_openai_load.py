"""A mixed load of a thousand calls, held against the journal of a server that we did not write."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from mlspan.testing import Spans

pytestmark = [
    pytest.mark.usefixtures("openai_on"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:.*unclosed <socket"),  # what abandoning a stream leaves to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # likewise
]

ASK: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
STREAM: Any = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
FAILING: Any = {**ASK, "messages": [{"role": "user", "content": "there is no such fixture"}]}


def journal(aimock: str) -> int:
    """How many requests the server has seen."""
    with urllib.request.urlopen(aimock.replace("/v1", "/__aimock/journal"), timeout=30) as answer:
        entries = json.load(answer)
    return len(entries if isinstance(entries, list) else entries["entries"])


def call(client: openai.OpenAI, n: int) -> int:
    """One call of a kind that *n* decides; the tokens that the server has attributes the caller of."""
    if n % 4 == 0:
        return client.chat.completions.create(**ASK).usage.total_tokens
    if n % 4 == 1:
        stream = client.chat.completions.create(**STREAM)
        if n % 8 == 1:
            next(stream)
            stream.close()  # one that is dropped in a thread can deadlock old versions of httpcore
            return 0  # abandoned: the tokens come last
        return sum(chunk.usage.total_tokens for chunk in stream if chunk.usage)
    if n % 4 == 2:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(**FAILING)
        return 0
    return client.with_options(timeout=20).chat.completions.create(**ASK).usage.total_tokens


async def acall(client: openai.AsyncOpenAI, n: int) -> int:
    if n % 3 == 0:
        return (await client.chat.completions.create(**ASK)).usage.total_tokens
    if n % 3 == 1:
        stream = await client.chat.completions.create(**STREAM)
        if n % 2:
            await anext(stream)
            await stream.close()
            return 0
        return sum([chunk.usage.total_tokens async for chunk in stream if chunk.usage])
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(**FAILING)
    return 0


async def test_every_call_is_a_span_and_every_token_is_counted(aimock: str, spans: Spans) -> None:
    """A thousand calls, sync in threads and async at once, streams half of them abandoned, errors among them."""
    before = journal(aimock)
    with openai.OpenAI(base_url=aimock, api_key="test", max_retries=0) as client, ThreadPoolExecutor(8) as pool:
        counted = sum(pool.map(lambda n: call(client, n), range(600)))
    gate = asyncio.Semaphore(16)
    async with openai.AsyncOpenAI(base_url=aimock, api_key="test", max_retries=0) as other:

        async def one(n: int) -> int:
            async with gate:
                return await acall(other, n)

        counted += sum(await asyncio.gather(*(one(n) for n in range(400))))
    assert len(spans.all) == 1000
    assert min(1000, journal(aimock) - before) in {1000 - before, 1000}  # the journal keeps its last thousand
    attributes = [span.attributes or {} for span in spans.all]
    tokens = sum(a.get("gen_ai.usage.input_tokens", 0) + a.get("gen_ai.usage.output_tokens", 0) for a in attributes)
    assert tokens == counted > 0
    failed = [a for a in attributes if "error.type" in a]
    assert len(failed) == 150 + 133
