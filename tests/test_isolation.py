"""Items that make a server fail are found wherever they are, in few requests; the others are stored, each once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from servers.program import environment, run
from servers.receiver import Receiver, once

from mlspan import tracing
from mlspan.tracing.export.answers import parse_retry_after, quote_answer
from mlspan.tracing.export.sending import isolation
from mlspan.tracing.export.sending.batch import BatchSender
from mlspan.tracing.export.sending.executor import BoundedExecutor
from mlspan.tracing.export.sending.sender import choose_wait
from mlspan.tracing.export.spool.dead_letters import DeadLetters
from mlspan.tracing.export.spool.queue import Spool
from mlspan.tracing.export.spool.rows import SpoolRow
from mlspan.tracing.export.types import BackendUnavailable, EncodedSpan


class Server:
    """A sink that fails on requests with a *poison* span, or on all if it is *away*."""

    local, at_once = False, 1

    def __init__(self, *poison: int) -> None:
        self.poison = set(poison)
        self.away, self.requests, self.stored = False, 0, Counter[int]()
        self.executor = BoundedExecutor(1)

    def prepare(self) -> None: ...

    def send(self, items: Sequence[EncodedSpan]) -> list[Any]:
        self.requests += 1
        numbers = [int(item.span) for item in items]
        if self.away or not self.poison.isdisjoint(numbers):
            raise BackendUnavailable("it answers 500", may_be_item=True)
        self.stored.update(numbers)
        return []


@pytest.fixture
def batch_sender(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What sends 400 items: the server, the spool, the sender, and the items that were set aside."""
    monkeypatch.setattr(isolation, "_CONFIRM_PAUSE", 0)
    spool, server, dead = Spool(None), Server(), []
    spool.add_spans([SpoolRow(EncodedSpan(b"", b"", str(number).encode()), 2) for number in range(400)])
    letters = DeadLetters(tmp_path)
    monkeypatch.setattr(letters, "write_letter", lambda _kind, _reason, item: dead.append(int(item.span)) or True)
    sender = BatchSender("otlp", server, letters, Counter(), Counter())
    yield SimpleNamespace(server=server, spool=spool, dead=dead, sender=sender)
    spool.close()


@pytest.mark.parametrize(
    "poison", [{0, 399}, {0}, {399}, {200}, {0, 1, 2}, {397, 398, 399}, {0, 100, 200, 300, 399}, set(range(0, 400, 40))]
)
def test_poison_is_found_anywhere_in_a_batch(batch_sender: Any, poison: set[int]) -> None:
    """First, last, in the middle, side by side: all others are stored once, in few requests, and it is set aside."""
    server = batch_sender.server
    server.poison = poison
    batch_sender.sender.send_spool(batch_sender.spool, failures=0, passed=lambda: None)
    assert server.stored == {number: 1 for number in range(400) if number not in poison}
    assert set(batch_sender.dead) == poison
    assert batch_sender.spool.count_spans() == 0
    assert server.requests < 20 * (1 + len(poison))


def test_much_poison_takes_several_rounds(batch_sender: Any) -> None:
    """Where half of the items are poison, each round is bounded, and the others arrive once."""
    server, poison = batch_sender.server, set(range(1, 400, 2))
    server.poison = poison
    for _ in range(20):
        before = server.requests
        batch_sender.sender.retry_kept()
        batch_sender.sender.isolate_poison(batch_sender.spool)
        assert server.requests - before <= 400
    assert server.stored == dict.fromkeys(range(0, 400, 2), 1)
    assert (
        set(batch_sender.dead) | {int(i) for (i,) in batch_sender.spool._db.execute("select data from span")} == poison
    )


def test_a_server_that_is_away_gets_few_requests_and_makes_nothing_poison(batch_sender: Any) -> None:
    batch_sender.server.away = True
    with pytest.raises(BackendUnavailable):
        batch_sender.sender.send_spool(batch_sender.spool, failures=0, passed=lambda: None)
    assert batch_sender.server.requests <= 6
    assert (batch_sender.dead, batch_sender.spool.count_spans()) == ([], 400)


def test_a_server_that_goes_away_in_the_middle_makes_nothing_poison(batch_sender: Any) -> None:
    """What fails is refused only if something passes after it."""
    server, sent = batch_sender.server, batch_sender.server.send
    server.poison = {7}

    def send(items: Sequence[EncodedSpan]) -> list[Any]:
        server.away = server.away or server.requests >= 5
        return sent(items)

    server.send = send
    with pytest.raises(BackendUnavailable):
        batch_sender.sender.send_spool(batch_sender.spool, failures=0, passed=lambda: None)
    assert batch_sender.dead == []
    server.away, server.send = False, sent
    batch_sender.sender.retry_kept()
    batch_sender.sender.send_spool(batch_sender.spool, failures=1, passed=lambda: None)
    assert batch_sender.dead == [7]
    assert server.stored == {number: 1 for number in range(400) if number != 7}


def test_all_of_many_refused_by_a_server_that_took_nothing_are_kept(batch_sender: Any) -> None:
    """It is the wrong form, or the wrong door, and not each of the items."""
    from mlspan.tracing.export.types import Refusal

    batch_sender.server.send = lambda items: [Refusal(item, "answers 400") for item in items]
    batch_sender.sender.send_spool(batch_sender.spool, failures=0, passed=lambda: None)
    assert (batch_sender.dead, batch_sender.spool.count_spans(), batch_sender.sender.refusals.kept) == ([], 400, 400)


@pytest.mark.parametrize("kind", ["otlp", "mlflow"])
def test_a_drain_steps_over_poison(receiver: Receiver, tmp_path: Path, kind: str) -> None:
    """One trace that makes the server fail holds up none of its neighbours, in one drain."""
    receiver.mode = 503
    where = {"mlflow": receiver.url} if kind == "mlflow" else {"otlp": receiver.url}
    assert run("work(0, 20)", environment(tmp_path, **where)).returncode == 0
    receiver.mode, receiver.poison, receiver.refusal = "ok", "execute_tool 0", 500
    done = tracing.drain(spool_dir=tmp_path)
    assert (done.sent, done.refused, done.stay) == (19, 1, 0)
    taken = receiver.otlp if kind == "otlp" else receiver.mlflow
    others = {name: 1 for name in once(20) if name != "execute_tool 0"}
    assert taken == others if kind == "otlp" else taken.keys() == others.keys()  # a trace may be replaced by itself


@pytest.mark.parametrize("header", ["0", "-1", "nan", "0.001", "inf", "-inf", "soon", "", None])
def test_retry_after_never_shortens_our_own_backoff(header: str | None) -> None:
    for failures, least in [(1, 0.8), (2, 1.6), (4, 6.4), (20, 24), (5_000, 24)]:
        assert least <= choose_wait(failures, parse_retry_after(header)) < 300
        assert least <= choose_wait(failures, float(header) if header in {"nan", "inf", "-1"} else None) < 300


def test_retry_after_is_a_number_or_a_date() -> None:
    from email.utils import formatdate
    from time import time

    assert choose_wait(1, parse_retry_after("20")) == 20
    assert 15 < (parse_retry_after(formatdate(time() + 20, usegmt=True)) or math.nan) < 21
    assert choose_wait(1, 1e9) == 300


def test_words_of_a_server_are_one_escaped_line() -> None:
    said = quote_answer(b"\x1b[31mno\r\nINFO fake line\x00\xff" + b"x" * 9000)
    assert said.startswith("\\x1b[31mno INFO fake line\\x00")
    assert len(said) < 260
    assert said.isprintable()
