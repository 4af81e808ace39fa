"""What the contract tests of a provider's client share: the client, its server, and what that answers next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from mlspan.testing import Spans


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
            self.server.stream(*events[what], delay=0.6 if what == "slow" else 0, drop=what == "cut")
