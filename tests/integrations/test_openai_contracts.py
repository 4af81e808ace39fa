"""The OpenAI client keeps the contracts of calls and streams, against a server that answers what a test says."""

from __future__ import annotations

from typing import Any

import openai
from openai_chunks import ANSWER, HELLO, REFUSAL, WHOLE
from scripted_client import ScriptedAsyncCalls, ScriptedAsyncStreams, ScriptedCalls, ScriptedClient, ScriptedStreams

from mlspan import integrations
from mlspan.testing import contracts


class OpenAI(ScriptedClient):
    """The client, its hook and its server."""

    answer, refusal, events = ANSWER, REFUSAL, WHOLE
    failure = REFUSAL

    def make_client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.server.base_url, api_key="test", max_retries=0)

    def ask(self, client: Any, **more: Any) -> Any:
        return client.chat.completions.create(model="m", messages=HELLO, **more)

    def autolog(self, **options: Any) -> None:
        integrations.openai.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(openai.OpenAI, "request"), (openai.AsyncOpenAI, "request")]

    def make_async_client(self) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(base_url=self.server.base_url, api_key="test", max_retries=0)
        self.async_clients.append(client)
        return client


class TestCalls(OpenAI, ScriptedCalls, contracts.CallContract):
    fails = openai.BadRequestError


class TestRawCalls(TestCalls):
    """``with_raw_response`` gives the client's own response, which the caller parses."""

    def ask(self, client: Any, **more: Any) -> Any:
        return client.chat.completions.with_raw_response.create(model="m", messages=HELLO, **more)

    def read_answer(self, answer: Any) -> Any:
        return answer.status_code, answer.parse()


class TestAsyncCalls(OpenAI, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = openai.BadRequestError


class TestStreams(OpenAI, ScriptedStreams, contracts.StreamContract):
    stream_type = openai.Stream


class TestStreamsOfAFailingServer(TestStreams):
    """The server's own error in the middle of a stream."""

    cut_off = openai.APIError

    def open_cut_off_stream(self) -> Any:
        return self.open_stream("error")


class TestRawStreams(TestStreams):
    """A stream that comes out of a raw response."""

    def ask(self, client: Any, **more: Any) -> Any:
        return client.chat.completions.with_raw_response.create(model="m", messages=HELLO, **more).parse()


class TestAsyncStreams(OpenAI, ScriptedAsyncStreams, contracts.AsyncStreamContract):
    stream_type = openai.AsyncStream
