"""The OpenAI client keeps the contracts of calls and streams, against a server that answers what a test says."""

from __future__ import annotations

from typing import Any

import openai
from openai_chunks import USAGE, WHOLE
from scripted_client import ScriptedClient

from mlspan import integrations
from mlspan.testing import contracts

HELLO: Any = [{"role": "user", "content": "a greeting"}]
MESSAGE = {"role": "assistant", "content": "One two."}
ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": USAGE,
}
REFUSAL = {"error": {"message": "no such model", "type": "invalid_request_error"}}


class OpenAI(ScriptedClient):
    """The client, its hook and its server."""

    answer, refusal, events = ANSWER, REFUSAL, WHOLE
    failure = REFUSAL

    def make_client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.server.base_url, api_key="test", max_retries=0)

    def autolog(self, **options: Any) -> None:
        integrations.openai.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(openai.OpenAI, "request"), (openai.AsyncOpenAI, "request")]

    def make_async_client(self) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(base_url=self.server.base_url, api_key="test", max_retries=0)
        self.async_clients.append(client)
        return client


class TestCalls(OpenAI, contracts.CallContract):
    fails = openai.BadRequestError

    def make_call(self) -> Any:
        self.script("answer")
        return self.client.chat.completions.create(model="m", messages=HELLO)

    def make_failing_call(self) -> Any:
        self.script("refusal")
        return self.client.chat.completions.create(model="m", messages=HELLO)


class TestRawCalls(TestCalls):
    """``with_raw_response`` gives the client's own response, which the caller parses."""

    def make_call(self) -> Any:
        self.script("answer")
        return self.client.chat.completions.with_raw_response.create(model="m", messages=HELLO)

    def read_answer(self, answer: Any) -> Any:
        return answer.status_code, answer.parse()

    def make_failing_call(self) -> Any:
        self.script("refusal")
        return self.client.chat.completions.with_raw_response.create(model="m", messages=HELLO)


class TestAsyncCalls(OpenAI, contracts.AsyncCallContract):
    fails = openai.BadRequestError

    async def make_call(self) -> Any:
        self.script("answer")
        return await self.make_async_client().chat.completions.create(model="m", messages=HELLO)

    async def make_failing_call(self) -> Any:
        self.script("refusal")
        return await self.make_async_client().chat.completions.create(model="m", messages=HELLO)

    async def make_hanging_call(self) -> Any:
        self.script("silence")
        return await self.make_async_client().chat.completions.create(model="m", messages=HELLO)


class TestStreams(OpenAI, contracts.StreamContract):
    stream_type = openai.Stream
    cut_off = Exception  # httpx's or the client's own, by version
    has_http_response = True

    def open_stream(self, what: str = "whole") -> Any:
        self.script(what)
        return self.client.chat.completions.create(model="m", messages=HELLO, stream=True)

    def open_cut_off_stream(self) -> Any:
        return self.open_stream("cut")


class TestStreamsOfAFailingServer(TestStreams):
    """The server's own error in the middle of a stream."""

    cut_off = openai.APIError

    def open_cut_off_stream(self) -> Any:
        return self.open_stream("error")


class TestRawStreams(TestStreams):
    """A stream that comes out of a raw response."""

    def open_stream(self, what: str = "whole") -> Any:
        self.script(what)
        create = self.client.chat.completions.with_raw_response.create
        return create(model="m", messages=HELLO, stream=True).parse()


class TestAsyncStreams(OpenAI, contracts.AsyncStreamContract):
    stream_type = openai.AsyncStream
    cut_off = Exception
    has_http_response = True

    async def open_stream(self, what: str = "whole") -> Any:
        self.script(what)
        return await self.make_async_client().chat.completions.create(model="m", messages=HELLO, stream=True)

    async def open_cut_off_stream(self) -> Any:
        return await self.open_stream("cut")

    async def open_slow_stream(self) -> Any:
        return await self.open_stream("slow")
