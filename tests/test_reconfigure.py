"""Configuring again, as a notebook or Streamlit does at each run, costs no time and no threads, and loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers.receiver import Receiver, once

from mlspan import tracing
from mlspan.tracing import runtime

CHANGES: dict[str, Callable[[int], dict[str, Any]]] = {
    "nothing": lambda _: {},
    "the same again": lambda _: {"tags": {"a": "b"}, "redact": ["secret"], "keep": tracing.Keep(ratio=1.0)},
    "a new function": lambda _: {"redact": lambda text: text},
    "tags": lambda number: {"tags": {"number": str(number)}},
    "no content": lambda number: {"capture_content": bool(number % 2)},
}


def work(number: int) -> None:
    with tracing.span(str(number), kind="tool") as span:
        span.output = "done"


@pytest.mark.parametrize("change", CHANGES)
def test_a_server_that_hangs(receiver: Receiver, tmp_path: Path, tracing_off: None, change: str) -> None:
    """Eight times, whatever of these is changed, starts the threads of one, and everything arrives once."""
    receiver.mode = "hang"
    threads = []
    for number in range(8):
        began = time.monotonic()
        arguments = CHANGES[change](number)
        tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=tmp_path, **arguments)
        assert time.monotonic() - began < 1
        work(number)
        threads.append(sum(thread.name.startswith("mlspan-") for thread in threading.enumerate()))
    assert max(threads) == threads[0]
    assert not tracing.shutdown(0.1)


def test_the_same_settings_change_nothing(receiver: Receiver, tmp_path: Path, tracing_off: None) -> None:
    for _ in range(3):
        tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=tmp_path)
    before = runtime.get_runtime()
    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=tmp_path)
    assert runtime.get_runtime() is before


def test_another_environment_is_another_setting(
    receiver: Receiver, tmp_path: Path, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracing.configure(tracking_uri="none", spool_dir=tmp_path)
    work(0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    tracing.configure(tracking_uri="none", spool_dir=tmp_path)
    work(1)
    assert tracing.flush(10)
    assert receiver.otlp == {"execute_tool 1": 1}


def test_a_change_of_destination_hands_over_in_the_background(
    receiver: Receiver, tmp_path: Path, tracing_off: None
) -> None:
    """What was recorded before goes where it was meant for, whenever that answers."""
    other = Receiver()
    other.mode = 503
    tracing.configure(tracking_uri="none", otlp_endpoint=other.url, spool_dir=tmp_path)
    work(0)
    began = time.monotonic()
    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=tmp_path)
    assert time.monotonic() - began < 1
    work(1)
    tracing.flush(10)
    other.mode = "ok"
    tracing.configure(tracking_uri="none", otlp_endpoint=other.url, spool_dir=tmp_path)
    work(2)
    assert tracing.flush(10)
    assert (other.otlp, receiver.otlp) == ({"execute_tool 0": 1, "execute_tool 2": 1}, {"execute_tool 1": 1})
    other.stop()


def test_changes_apply_to_what_comes_after(receiver: Receiver, tmp_path: Path, tracing_off: None) -> None:
    """A new redaction, with the senders of before."""
    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=tmp_path)
    work(0)
    assert tracing.flush(10)
    tracing.configure(tracking_uri="none", otlp_endpoint=receiver.url, spool_dir=tmp_path, redact=["done"])
    work(1)
    assert tracing.flush(10)
    assert receiver.otlp == once(2)
    assert [b"done" in body for body in receiver.bodies] == [True, False]
