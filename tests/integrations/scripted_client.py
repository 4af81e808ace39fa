"""What the contract tests of a provider's client share: the client, its server, and what that answers next."""

from __future__ import annotations

from collections.abc import Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, ClassVar

import pytest

from mlspan.testing import Spans, contracts


class ScriptedClient:
    """A client and a server that a test scripts. Every client is asked for "a greeting", and says "One two."."""

    span: ClassVar[str] = "chat m"
    tokens: ClassVar[tuple[int, int]] = (12, 5)
    texts: ClassVar[tuple[str, ...]] = ("a greeting", "One two.")
    first_text: ClassVar[str] = "One "
    answer: ClassVar[Any]
    refusal: ClassVar[Any]  # the body of an error 400
    events: ClassVar[list[Any]]  # of a whole stream
    cut_after: ClassVar[int] = 1  # so many events have come when a stream is cut off, or fails
    failure: ClassVar[Any] = None  # the event of a stream that fails

    @pytest.fixture(autouse=True)
    def _server(self, scripted: Any, spans: Spans) -> Iterator[None]:
        """*spans* holds each span against the conventions."""
        self.server, self.async_clients = scripted, []
        self.client = self.make_client()
        yield
        self.release_client()

    def make_client(self) -> Any:
        """Return a new client of the server."""
        raise NotImplementedError

    def ask(self, client: Any, **more: Any) -> Any:
        """Ask *client* for "a greeting"; return the answer, or of an asynchronous client what is awaited for it."""
        raise NotImplementedError

    def release_client(self) -> None:
        """Close the client."""
        self.client.close()

    async def close_client(self) -> None:
        """Close what the calls of a test have opened."""
        while self.async_clients:
            await self.async_clients.pop().close()

    def script(self, what: str) -> None:
        """Say what the server answers next."""
        self.server.clear()
        begun = self.events[: self.cut_after]
        if what == "answer":
            self.server.reply(self.answer)
        elif what == "refusal":
            self.server.reply(self.refusal, status=400)
        elif what == "silence":
            self.server.reply(self.answer, delay=0.6)
        else:
            events = {"whole": self.events, "slow": self.events, "cut": begun, "error": [*begun, self.failure]}
            self.send_events(events[what], delay=0.6 if what == "slow" else 0, drop=what == "cut")

    def send_events(self, events: list[Any], **how: Any) -> None:
        """Have the server answer with a stream of *events*."""
        self.server.stream(*events, **how)


class ScriptedCalls(ScriptedClient):
    """The calls that :class:`mlspan.testing.contracts.CallContract` makes."""

    def make_call(self) -> Any:
        self.script("answer")
        return self.ask(self.client)

    def make_failing_call(self) -> Any:
        self.script("refusal")
        return self.ask(self.client)


class ScriptedAsyncCalls(ScriptedClient):
    """The calls that :class:`mlspan.testing.contracts.AsyncCallContract` makes."""

    make_async_client: Any

    async def make_call(self) -> Any:
        self.script("answer")
        return await self.ask(self.make_async_client())

    async def make_failing_call(self) -> Any:
        self.script("refusal")
        return await self.ask(self.make_async_client())

    async def make_hanging_call(self) -> Any:
        self.script("silence")
        return await self.ask(self.make_async_client())


class ScriptedStreams(ScriptedClient):
    """The streams that :class:`mlspan.testing.contracts.StreamContract` reads."""

    cut_off: ClassVar[type[BaseException]] = Exception  # httpx's or the client's own, by version
    has_http_response: ClassVar[bool] = True

    def open_stream(self, what: str = "whole") -> Any:
        self.script(what)
        return self.ask(self.client, stream=True)

    def open_cut_off_stream(self) -> Any:
        return self.open_stream("cut")


class ScriptedAsyncStreams(ScriptedClient):
    """The streams that :class:`mlspan.testing.contracts.AsyncStreamContract` reads."""

    make_async_client: Any
    cut_off: ClassVar[type[BaseException]] = Exception
    has_http_response: ClassVar[bool] = True

    async def open_stream(self, what: str = "whole") -> Any:
        self.script(what)
        return await self.ask(self.make_async_client(), stream=True)

    async def open_cut_off_stream(self) -> Any:
        return await self.open_stream("cut")

    async def open_slow_stream(self) -> Any:
        return await self.open_stream("slow")


class ScriptedGenerators(ScriptedStreams, contracts.StreamContract):
    """Streams that are generators."""

    stream_type = GeneratorType
    is_generator = True
    has_http_response, has_with = False, False

    def check_dropped(self) -> None:
        """In a cycle either may be collected first: the generator, or the events that it reads."""
        end = dict(self.spans.one().attributes or {}).get("mlspan.stream.end")
        assert end in {"closed", "abandoned"}
        self.check_left(end=str(end))


class ScriptedAsyncGenerators(ScriptedAsyncStreams, contracts.AsyncStreamContract):
    """Streams that are asynchronous generators, which no call has to be awaited for."""

    stream_type = AsyncGeneratorType
    is_generator = True
    has_http_response, has_with = False, False

    async def open_stream(self, what: str = "whole") -> Any:
        self.script(what)
        return self.ask(self.make_async_client(), stream=True)
