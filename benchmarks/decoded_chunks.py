"""What a chunk that is decoded beforehand costs through our proxy of a client's stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import client_calls
from client_calls import Call
from harness import Time, summarize, timed

from mlspan.tracing.operations.response_proxy import ResponseProxy
from mlspan.tracing.operations.stream import PlainStream


def list_chunks(stream: Call) -> list[Any]:
    """Return the chunks of a stream that nobody traces."""
    found: list[Any] = []
    with patch.object(client_calls, "_read", found.extend):
        stream()
    return found


def time_decoded(stream: Call, chunks: list[Any], rounds: int) -> Time:
    """Return what each of *chunks*, which are at hand, adds to a loop over them, as ``run.py`` measures OpenAI's.

    Each round has a stream of the client's, which is open, and a proxy around an iterator that has nothing to decode.
    """

    class Decoded:
        def __init__(self, read: list[Any]) -> None:
            self.read = read

        def __iter__(self) -> Iterator[Any]:
            yield from self.read

    def add(read: list[Any]) -> float:
        kept: list[Any] = []  # what is dropped has ended
        reader = partial(read_first, kept=kept)
        with patch.object(client_calls, "_read", reader), catch_observers() as observers:
            stream()
        traced = PlainStream(Decoded(read), observers[-1])
        bare = timed(lambda: read_all(Decoded(read)))
        return timed(lambda: read_all(traced)) - bare

    few = [*chunks[:2], chunks[-1]]
    taken = [add(chunks) - add(few) for _ in range(rounds + 1)]
    return summarize([each / (len(chunks) - len(few)) for each in taken[1:]])


def read_first(stream: Any, kept: list[Any]) -> None:
    """The first chunk, which has more to tell than others."""
    chunks = iter(stream)
    next(chunks, None)
    kept += stream, chunks


def read_all(stream: Any) -> None:
    for _ in stream:
        pass


@contextmanager
def catch_observers() -> Iterator[list[Any]]:
    """Give the observers of the streams that the block opens."""
    found: list[Any] = []
    own = ResponseProxy.__init__

    def init(self: Any, stream: Any, observer: Any) -> None:
        found.append(observer)
        own(self, stream, observer)

    with patch.object(ResponseProxy, "__init__", init):
        yield found
