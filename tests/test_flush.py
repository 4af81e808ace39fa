"""What flush and shutdown say: stored, kept, set aside and dropped, by destination; true only if all was stored."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from test_export import AI, Memory

from mlspan import tracing
from mlspan.cli.places import EffectiveSetting
from mlspan.cli.waiting import format_spool_status, read_spool_status, status_to_json
from mlspan.tracing.export import processor as processor_module
from mlspan.tracing.export.flush_result import DestinationResult, FlushResult
from mlspan.tracing.export.processor import ExportProcessor
from mlspan.tracing.export.segment_writer import SegmentWriter
from mlspan.tracing.export.spool.limits import SpoolSettings
from mlspan.tracing.export.types import BackendUnavailable, Refusal
from mlspan.tracing.export.worker import ExportWorker
from mlspan.tracing.operations.call_context import TraceOrigin

MLFLOW, OTLP = {"tracking_uri": "http://store"}, {"endpoint": "http://receiver", "protocol": "http/protobuf"}


class Spans(Memory):
    """As Memory, for spans instead of segments."""

    def send(self, segments: Any) -> list[Refusal]:
        if self.fault is not None:
            raise self.fault
        self.segments += segments
        return []


class Setup:
    """An exporter with two destinations, and a tracer."""

    def __init__(self, folder: Path | None, **settings: Any) -> None:
        self.mlflow, self.otlp = Memory(), Spans()
        keeping = SpoolSettings("none" if folder is None else "batch", folder, **settings)
        self.exporter = ExportProcessor(
            {"mlflow": (lambda: self.mlflow, MLFLOW), "otlp": (lambda: self.otlp, OTLP)}, TraceOrigin, keeping=keeping
        )
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.exporter)
        self._tracer = provider.get_tracer("test")

    def work(self, *names: str, **attributes: str) -> None:
        for name in names:
            self._tracer.start_span(name, attributes={**AI, **attributes}).end()

    def flush(self) -> dict[str, DestinationResult]:
        self.last = self.exporter.flush(10)
        return {one.destination: one for one in self.last.destinations}


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path / "spool")
    yield made
    made.mlflow.fault = made.otlp.fault = None
    made.exporter.stop(5)


def test_all_is_stored(setup: Setup) -> None:
    """Each destination says what it has taken since the flush before."""
    setup.work("a", "b")
    found = setup.flush()
    assert setup.last
    assert {name: one.stored for name, one in found.items()} == {"mlflow http://store": 2, "otlp http://receiver": 2}
    assert (setup.last.stored, setup.last.kept, setup.last.set_aside, setup.last.dropped) == (4, 0, 0, 0)
    setup.work("c")
    assert [one.stored for one in setup.flush().values()] == [1, 1]
    assert [one.stored for one in setup.flush().values()] == [0, 0]
    assert setup.last


def test_what_waits_says_where_why_and_since_when(setup: Setup, tmp_path: Path) -> None:
    """A backend that is away keeps its own waiting, and the other one has all."""
    before = time.time()
    setup.mlflow.fault = BackendUnavailable("cannot reach the store")
    setup.work("a", "b")
    found = setup.flush()
    assert not setup.last
    kept = found["mlflow http://store"].kept
    assert kept is not None
    assert (kept.spans, kept.where, kept.reason) == (2, str(tmp_path / "spool"), "cannot reach the store")
    assert kept.since is not None
    assert before <= kept.since <= time.time()
    assert (found["otlp http://receiver"].stored, bool(found["otlp http://receiver"])) == (2, True)
    assert str(setup.last).splitlines()[0].startswith("mlflow http://store: 0 stored, 2 kept in ")
    assert "cannot reach the store" in str(setup.last)
    setup.mlflow.fault = None
    assert setup.flush()["mlflow http://store"].stored == 2
    assert setup.last


def test_what_may_not_be_written_is_kept(setup: Setup) -> None:
    """A denial is a reason to wait."""
    setup.mlflow.send = lambda segments: [Refusal(one, "answers 403", keep=True) for one in segments]  # type: ignore[method-assign]
    setup.work("a")
    kept = setup.flush()["mlflow http://store"].kept
    assert kept is not None
    assert (kept.spans, kept.reason, bool(setup.last)) == (1, "answers 403", False)
    del setup.mlflow.send  # type: ignore[method-assign]
    setup.flush()


def test_what_is_refused_is_set_aside_once(setup: Setup, tmp_path: Path) -> None:
    """The reason, the number of spans, and no second time."""
    setup.mlflow.refuse = "poison"
    setup.work("good", "poison", "good")
    found = setup.flush()["mlflow http://store"]
    assert not setup.last
    assert (found.stored, found.set_aside, found.kept, found.dropped) == (2, {"no such thing": 1}, None, {})
    assert len(tracing.dead(spool_dir=tmp_path / "spool")) == 1
    setup.flush()
    assert setup.last


def test_what_cannot_be_set_aside_is_dropped() -> None:
    """Without a folder there is no place for what is refused."""
    setup = Setup(None)
    setup.mlflow.refuse = "poison"
    setup.work("poison")
    found = setup.flush()["mlflow http://store"]
    assert (found.set_aside, found.dropped) == ({}, {"refused, and nowhere to set it aside: no such thing": 1})
    setup.exporter.stop(5)


def test_what_is_too_much_is_dropped(tmp_path: Path) -> None:
    """More than the bound is dropped, and flush says how many."""
    setup = Setup(tmp_path / "spool", max_bytes=200_000)
    setup.mlflow.fault = setup.otlp.fault = BackendUnavailable("away")
    setup.work(*"abcdefghij", **{"gen_ai.input.messages": "x" * 50_000})
    found = setup.flush()
    assert not setup.last
    for one in found.values():
        assert one.kept is not None
        assert one.kept.spans + sum(one.dropped.values()) == 10
        assert list(one.dropped) == ["more came than may be kept"]
    setup.mlflow.fault = setup.otlp.fault = None
    assert setup.exporter.stop(10)


def test_shutdown_says_what_stays(tmp_path: Path) -> None:
    """After the last flush the spool is closed, and what is left in it is known."""
    setup = Setup(tmp_path / "spool")
    setup.mlflow.fault = BackendUnavailable("away")
    setup.work("a")
    result = setup.exporter.stop(10)
    (mlflow, otlp) = result.destinations
    assert (mlflow.kept and mlflow.kept.spans, otlp.stored, bool(result)) == (1, 1, False)


def test_a_flush_that_is_not_done_in_time(setup: Setup) -> None:
    """A backend that does not answer: it is not known what it has, and so all of it is kept."""
    going = threading.Event()
    setup.mlflow.send = lambda _: going.wait(20) and []  # type: ignore[method-assign]
    setup.work("a")
    result = setup.exporter.flush(0.5)
    going.set()
    assert not result
    assert not result.in_time
    kept = result.destinations[0].kept
    assert kept is not None
    assert kept.reason == "no answer yet"
    assert setup.exporter.flush(10)


class Dead(BaseException):
    """Ends a thread."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("where", ["accept_start", "accept_end", "_encode_rows", "_notify_senders"])
def test_a_dead_export_thread_is_no_success(setup: Setup, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Where the thread ends in the middle, what it held is dropped or stored by whoever flushes, and it is said."""
    owner = SegmentWriter if where == "_encode_rows" else ExportWorker
    own: Callable[..., Any] = getattr(owner, where)
    died = threading.Event()

    def fail_once(self: Any, *given: Any, **more: Any) -> Any:
        if not died.is_set() and (where != "_notify_senders" or self.senders):
            died.set()
            raise Dead
        return own(self, *given, **more)

    setup.work("before")
    setup.flush()
    assert setup.last
    monkeypatch.setattr(owner, where, fail_once)
    setup.work("lost")
    assert died.wait(10)
    setup.exporter._thread.join(10)  # type: ignore[union-attr]  # it has been started
    setup.work("after")
    found = setup.flush()
    for one in found.values():
        dropped = sum(one.dropped.values())
        assert one.stored + dropped == 2, one
        assert bool(one) is (dropped == 0)
    setup.flush()
    assert setup.last


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_sender_is_stood_in_for(setup: Setup) -> None:
    """Where a sender's thread has ended, a flush sends, and shutdown ends."""

    def die(_: Any) -> list[Refusal]:
        del setup.mlflow.send  # type: ignore[method-assign]
        raise Dead

    setup.mlflow.send = die  # type: ignore[method-assign]
    setup.work("a")
    thread = next(one for one in threading.enumerate() if one.name == "mlspan-mlflow")
    setup.exporter.flush(3)
    thread.join(10)
    setup.work("b")
    assert setup.flush()["mlflow http://store"].stored >= 1
    assert setup.exporter.stop(10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exporter_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the worker cannot be made, nothing is stored, and flush says so."""
    monkeypatch.setenv("MLSPAN_STRICT", "0")
    setup = Setup(None)

    def fail(_: ExportProcessor) -> Any:
        raise RuntimeError("cannot be opened")

    monkeypatch.setattr(processor_module.ExportProcessor, "_open_worker", fail)
    setup.work("a", "b")
    result = setup.exporter.flush(5)
    assert not result
    assert [one.kept and (one.kept.spans, one.kept.where) for one in result.destinations] == [(2, "memory")] * 2


def test_of_others_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What another process has left is sent, and neither counted nor complained of at the exit."""
    folder = tmp_path / "spool"
    first, second = Setup(folder), Setup(folder)
    first.mlflow.fault = second.mlflow.fault = BackendUnavailable("away")
    first.work("theirs")
    first.exporter.stop(5)
    with caplog.at_level(logging.WARNING, "mlspan"):
        second.exporter._start_thread()
        second.work("mine")
        kept = second.flush()["mlflow http://store"].kept
        assert kept is not None
        assert kept.spans == 1
        second.exporter.stop(5)
        second.exporter.log_unsent()
    assert any("1 span could not be sent" in line for line in caplog.messages), caplog.messages
    third = Setup(folder)
    third.exporter._start_thread()
    third.work("new")
    assert third.flush()["mlflow http://store"].stored == 1
    assert third.exporter.stop(10)
    assert sorted(span.name for one in third.mlflow.segments for span in one.spans) == ["mine", "new", "theirs"]


def test_results_of_several_exporters_are_one() -> None:
    """Destinations of the same name are added up; nothing at all is a success."""
    one = DestinationResult("mlflow a", 1, set_aside={"x": 1})
    two = DestinationResult("mlflow a", 2, dropped={"y": 3}, set_aside={"x": 2})
    both = FlushResult.combine([one, two, DestinationResult("otlp b", 5)], in_time=True)
    assert [(each.destination, each.stored) for each in both.destinations] == [("mlflow a", 3), ("otlp b", 5)]
    assert (both.set_aside, both.dropped, bool(both), bool(FlushResult())) == (3, 3, False, True)
    assert str(FlushResult()) == "nothing to send"
    assert str(both) == "mlflow a: 3 stored, 3 set aside (x), 3 dropped (y)\notlp b: 5 stored"
    assert not FlushResult(in_time=False)


def test_the_doctor_lists_what_waits_for_whom(tmp_path: Path) -> None:
    """By destination, since when; what is in use or damaged is named, and so is what was set aside. Nothing changes."""
    folder = tmp_path / "spool"
    left, refused, running = Setup(folder), Setup(folder), Setup(folder)
    left.mlflow.fault = running.mlflow.fault = BackendUnavailable("away")
    refused.mlflow.refuse = "poison"
    for one in (left, refused, running):
        one.work("a", "poison")
        one.flush()
    left.exporter.stop(5)
    refused.exporter.stop(5)
    (folder / "1-broken.spool").write_bytes(b"no database" * 100)
    before = sorted(path.name for path in folder.iterdir())
    settings = {"spool_dir": str(folder), "durability": "trace"}
    status = read_spool_status({name: EffectiveSetting(name, value, "argument") for name, value in settings.items()})
    assert status is not None
    assert sorted(path.name for path in folder.iterdir()) == before
    lines = "\n".join(format_spool_status(status))
    assert "2 spans for mlflow http://store, since " in lines
    assert "1 file of running programs" in lines
    assert "1 file that cannot be read: 1-broken.spool" in lines
    assert "1 set aside for mlflow: no such thing" in lines
    assert sorted(one["state"] for one in status_to_json(status)["waiting"]) == ["damaged", "in use", "waiting"]  # type: ignore[index]
    running.mlflow.fault = None
    assert running.exporter.stop(10)
    (folder / "1-broken.spool").unlink()
