"""Bodies that a caller reads like a file: whichever way, the content is recorded once, and the caller is left alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from mlspan.tracing.operations.raw_response import BodyBuffer, RawHttpResponse, RawResponse
from mlspan.tracing.operations.response_proxy import HttpResponseProxy
from mlspan.tracing.operations.stream import AsyncStream, Stream
from mlspan.tracing.operations.unread_member import AsyncEvents, Events, UnreadBody

BODY = b'{"a":\n1}\n'


class Seen:
    """An observer that keeps the body, and how the reading has ended."""

    def __init__(self) -> None:
        self.body, self.ends = BodyBuffer(), list[Any]()

    def get_body_buffer(self) -> BodyBuffer:
        return self.body

    def record_result(self, value: object) -> object:
        return value

    def observe(self, value: object) -> bool:
        return True

    def finish(self, error: Any = None, *, stream_end: Any = None, collecting: bool = False) -> None:
        self.ends.append(error or stream_end)


class Body(io.IOBase):
    """A body as botocore's: what it does not define itself it has from ``IOBase``, which reads past any proxy."""

    def __init__(self) -> None:
        self.own = io.BytesIO(BODY)

    def readable(self) -> bool:
        return True

    def read(self, amount: int | None = None) -> bytes:
        return self.own.read(amount)

    def read1(self, amount: int = -1) -> bytes:
        return self.own.read1(amount)

    def readinto(self, buffer: Any) -> int:
        return self.own.readinto(buffer)


def read_lines(body: Any) -> None:
    while body.readline():
        pass


def read_pieces(body: Any) -> None:
    while body.read1(3):
        pass


def read_into(body: Any) -> None:
    buffer = memoryview(bytearray(8)).cast("i")
    while body.readinto(buffer):
        pass


def read_few_lines(body: Any) -> None:
    while body.readlines(1):
        pass


def read_nothing_first(body: Any) -> None:
    assert not body.readline(0)
    assert not body.read1(0)
    read_lines(body)


READS: list[Callable[[Any], Any]] = [read_lines, read_few_lines, read_nothing_first, lambda body: body.readlines()]


@pytest.mark.parametrize("read", [*READS, read_pieces, read_into])
def test_a_body_of_bytes(read: Callable[[Any], Any]) -> None:
    seen = Seen()
    body = UnreadBody(io.BufferedReader(Body()) if read is read_few_lines else Body(), seen)
    read(body)
    assert [*seen.body.decode_values()] == [{"a": 1}]
    assert seen.ends[:1] == [None]


@pytest.mark.parametrize("read", [read_lines, read_few_lines, lambda body: body.readlines(), lambda body: [*body]])
def test_a_body_of_text(read: Callable[[Any], Any]) -> None:
    """A stub has one."""
    seen = Seen()
    read(UnreadBody(io.StringIO(BODY.decode()), seen))
    assert [*seen.body.decode_values()] == [{"a": 1}]
    assert seen.ends[:1] == [None]


def test_a_part_of_the_lines_is_not_all() -> None:
    seen = Seen()
    assert UnreadBody(io.BytesIO(BODY), seen).readlines(1) == [b'{"a":\n']
    assert seen.ends == ["abandoned"]


@pytest.mark.parametrize("name", ["read", "readline", "readlines", "__next__"])
def test_an_answer_of_no_known_kind_reaches_the_caller(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the recording cannot read is the caller's all the same."""
    monkeypatch.delenv("MLSPAN_STRICT", raising=False)
    odd = [object()]
    own = type("Odd", (), {name: lambda _, *__: odd})()
    assert getattr(UnreadBody(own, Seen()), name)() is odd


PROXIES = [UnreadBody, Events, AsyncEvents, RawResponse, RawHttpResponse, HttpResponseProxy, Stream, AsyncStream]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("cls", PROXIES)
def test_a_proxy_that_was_made_past_its_init(cls: type) -> None:
    """As copying and unpickling make one: it has no attribute, and no trouble with its end."""
    empty: Any = cls.__new__(cls)
    with pytest.raises(AttributeError):
        _ = empty.anything
    del empty
