"""A limit on the size of a request, of a server or of a proxy before it: what it takes is sent in smaller requests."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest
import urllib3
from opentelemetry import trace
from servers.receiver import Receiver, once

from mlspan import tracing
from mlspan.tracing.export.mlflow import http
from mlspan.tracing.export.sending import batch

_KIB = 1024


@pytest.fixture(params=["answers", "hangs up"])
def limited(request: pytest.FixtureRequest, receiver: Receiver, tmp_path: Path, tracing_off: None) -> Receiver:
    """A backend behind a proxy that takes requests of 100 KiB, and that answers 413 to others, or hangs up."""
    receiver.most_bytes, receiver.hangs_up = 100 * _KIB, request.param == "hangs up"
    tracing.configure(tracking_uri=receiver.url, otlp_endpoint=receiver.url, spool_dir=tmp_path / "spool")
    return receiver


def _work(name: str, size: int) -> None:
    """Record a tool with *size* bytes that no compression makes smaller than three quarters."""
    with tracing.span(name, kind="tool"):
        text = base64.b64encode(os.urandom(size * 3 // 4)).decode()
        trace.get_current_span().set_attribute("payload", text)


def _check_all_stored(receiver: Receiver, expected: dict[str, int]) -> None:
    result = tracing.flush(60)
    assert result, str(result)
    assert (receiver.otlp, receiver.mlflow.keys()) == (expected, expected.keys())


def test_a_batch_of_traces(limited: Receiver, tmp_path: Path) -> None:
    """Traces that are too large together are sent in smaller requests; after that, in ones that fit at once."""
    for number in range(30):
        _work(str(number), 20 * _KIB)
    _check_all_stored(limited, once(30))
    found = len(limited.too_large)
    assert found < 20
    for number in range(30, 60):
        _work(str(number), 20 * _KIB)
    _check_all_stored(limited, once(60))
    assert len(limited.too_large) <= found + 2
    assert tracing.dead(spool_dir=tmp_path / "spool") == []


def test_one_trace_of_many_spans(limited: Receiver, tmp_path: Path) -> None:
    """A trace that is too large as a whole goes in parts; MLflow gets its summary once, and no part as a summary."""
    with tracing.span("root"):
        for number in range(30):
            _work(str(number), 20 * _KIB)
    _check_all_stored(limited, {**once(30), "root": 1})
    assert len(limited.too_large) < 20
    assert sum(b'"trace_info"' in body for body in limited.bodies) == 1
    assert tracing.dead(spool_dir=tmp_path / "spool") == []


def test_one_span(receiver: Receiver, tmp_path: Path, tracing_off: None, caplog: pytest.LogCaptureFixture) -> None:
    """A span that is too large alone is cut, and a line says how large it was, for whom, and what to do."""
    receiver.most_bytes = 100 * _KIB
    tracing.configure(tracking_uri=receiver.url, otlp_endpoint=receiver.url, spool_dir=tmp_path / "spool")
    _work("0", 1)
    with tracing.span("root"):
        _work("1", 300 * _KIB)
        _work("2", 20 * _KIB)
    _check_all_stored(receiver, {**once(3), "root": 1})
    lines = [record.getMessage() for record in caplog.records if "too large" in record.getMessage()]
    assert len(lines) == 2, lines  # for each backend one
    for line in lines:
        assert re.search(
            rf"[23]\d\d KiB is too large for .*{receiver.url}/v1/traces\)?: .*cut.*limit.*max_content_bytes", line
        )
    assert tracing.dead(spool_dir=tmp_path / "spool") == []


def test_one_span_on_which_the_proxy_hangs_up(receiver: Receiver, tmp_path: Path, tracing_off: None) -> None:
    """It may be an outage, so the span is not cut: it is set aside whole once others have passed, with the size."""
    receiver.most_bytes, receiver.hangs_up = 100 * _KIB, True
    tracing.configure(tracking_uri=receiver.url, otlp_endpoint=receiver.url, spool_dir=tmp_path / "spool")
    _work("large", 300 * _KIB)
    for number in range(4):
        _work(str(number), 1)
    result = tracing.flush(60)
    assert [(one.stored, sum(one.set_aside.values())) for one in result.destinations] == [(4, 1)] * 2, str(result)
    assert receiver.otlp == once(4)
    letters = tracing.dead(spool_dir=tmp_path / "spool")
    assert len(letters) == 2
    for letter in letters:
        assert re.search(rf"{receiver.url}.*closes the connection on [23]\d\d KiB.*raise its limit", letter.reason)
        assert len(letter.spans()[0].attributes["payload"]) == 300 * _KIB


def test_what_cannot_be_made_smaller(
    receiver: Receiver, tmp_path: Path, tracing_off: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside whole, its neighbours are stored, and the line says size, host and what to do."""
    receiver.most_bytes = 4 * _KIB
    tracing.configure(tracking_uri=receiver.url, otlp_endpoint=receiver.url, spool_dir=tmp_path / "spool")
    for number in range(4):
        _work(str(number), 1)
    with tracing.span("many", kind="tool"):
        names = [base64.b64encode(os.urandom(150)).decode() for _ in range(100)]
        trace.get_current_span().set_attributes(dict.fromkeys(names, 1))
    result = tracing.flush(60)
    assert [(one.stored, sum(one.set_aside.values())) for one in result.destinations] == [(4, 1)] * 2
    assert (receiver.otlp, receiver.mlflow.keys()) == (once(4), once(4).keys())
    for letter in tracing.dead(spool_dir=tmp_path / "spool"):
        assert re.search(rf"{receiver.url}.* answers 413: .*KiB.*raise its limit", letter.reason), letter.reason
        assert len(letter.spans()[0].attributes) >= 100
        assert sum(letter.reason in record.getMessage() for record in caplog.records) == 1


def test_a_server_that_takes_too_long_for_a_batch(
    receiver: Receiver, tmp_path: Path, tracing_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it cannot store within the time that a request may take is sent in smaller ones, until it can."""
    monkeypatch.setattr(http, "_TIMEOUT", urllib3.Timeout(connect=2.0, read=1.0))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1.0")
    monkeypatch.setattr(batch, "_QUICK_FAILURE", 0.5)  # half of what a request may take: no failure of one item
    receiver.seconds_per_kib = 1 / 100  # so a request may have about 100 KiB
    tracing.configure(tracking_uri=receiver.url, otlp_endpoint=receiver.url, spool_dir=tmp_path / "spool")
    for number in range(15):
        _work(str(number), 20 * _KIB)
    for _ in range(8):
        if tracing.flush(60):
            break
    assert receiver.otlp.keys() == receiver.mlflow.keys() == once(15).keys()
    assert tracing.flush(60)
