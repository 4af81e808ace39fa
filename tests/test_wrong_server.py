"""What no OTLP receiver and no MLflow answers is no success: all is kept, one line says so, the doctor sees it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from servers.scripted import Scripted

from mlspan import _guard, tracing
from mlspan.cli.places import EffectiveSetting
from mlspan.cli.probes import check_mlflow_store, check_otlp_receiver

PAGE = b"<!DOCTYPE html><html><body>Sign in</body></html>"
FOREIGN = {
    "a sign-in page": (PAGE, "text/html; charset=utf-8"),
    "a page without a type": (b"\n  " + PAGE, "application/octet-stream"),
    "another text": (b"It works!", "text/plain"),
    "no object": (b"[1]", "application/json"),
    "no JSON": (b"oops", "application/json"),
}
TAKEN = {
    "nothing": (b"", "text/plain"),
    "an empty page": (b"", "text/html"),
    "protobuf": (b"", "application/x-protobuf"),
    "JSON": (b"{}", "application/json"),
    "JSON of a vendor": (b'{"status": "ok"}', "application/json"),
    "OK": (b"OK", "text/plain"),
}


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "_logged_lines", {})


def record(count: int) -> None:
    for number in range(count):
        with tracing.span(str(number), kind="tool"):
            pass


def configure(server: Scripted, kind: str, spool: Path) -> str:
    url = server.base_url.removesuffix("/v1")
    uris = {"tracking_uri": url} if kind == "mlflow" else {"tracking_uri": "none", "otlp_endpoint": url}
    tracing.configure(spool_dir=spool, **uris)
    return url


@pytest.mark.parametrize("answer", FOREIGN)
@pytest.mark.parametrize("kind", ["otlp", "mlflow"])
def test_another_server_is_no_success(
    scripted: Scripted, tmp_path: Path, tracing_off: None, caplog: pytest.LogCaptureFixture, kind: str, answer: str
) -> None:
    body, content_type = FOREIGN[answer]
    scripted.reply(body, headers={"Content-Type": content_type})
    url = configure(scripted, kind, tmp_path)
    record(7)
    result = tracing.flush(10)
    (one,) = result.destinations
    assert (bool(result), one.stored, one.kept.spans, dict(one.set_aside)) == (False, 0, 7, {})
    assert not tracing.flush(10)
    assert tracing.dead(spool_dir=tmp_path) == []
    assert len([line for line in caplog.messages if "another server is behind this address" in line]) == 1
    values = {"tracking_uri": url, "experiment": None, "run": None, "otlp_endpoint": url, "otlp_protocol": None}
    setting = {name: EffectiveSetting(name, value, "argument") for name, value in values.items()}
    check = check_mlflow_store(setting, write=True) if kind == "mlflow" else check_otlp_receiver(setting)
    (found,) = check
    assert not found.well
    assert "another server is behind this address" in found.says


@pytest.mark.parametrize("answer", TAKEN)
def test_answers_of_receivers_are_a_success(scripted: Scripted, tmp_path: Path, tracing_off: None, answer: str) -> None:
    body, content_type = TAKEN[answer]
    scripted.reply(body, headers={"Content-Type": content_type})
    configure(scripted, "otlp", tmp_path)
    record(3)
    assert tracing.flush(10).stored == 3


def make_partial(form: str, rejected: int, message: str) -> tuple[bytes, str]:
    if form == "protobuf":
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans, answer.partial_success.error_message = rejected, message
        return answer.SerializeToString(), "application/x-protobuf"
    import json

    return json.dumps({"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": message}}).encode(), (
        "application/json"
    )


@pytest.mark.parametrize("form", ["protobuf", "JSON"])
def test_partial_success(
    scripted: Scripted, tmp_path: Path, tracing_off: None, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    """Rejected spans count as such, by reason, in both forms; the server's words are escaped where they are told."""
    body, content_type = make_partial(form, 2, "quota \x1b[31mexceeded\nINFO: all is well")
    scripted.reply(body, headers={"Content-Type": content_type})
    configure(scripted, "otlp", tmp_path)
    record(5)
    result = tracing.flush(10)
    (one,) = result.destinations
    assert (bool(result), one.stored, one.kept) == (False, 3, None)
    ((reason, count),) = one.dropped.items()
    assert count == 2
    assert r"quota \x1b[31mexceeded INFO: all is well" in reason
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert all(line.isprintable() for line in lines)
    assert any("has rejected spans" in line for line in lines)


def test_a_request_that_is_rejected_whole_is_set_aside(scripted: Scripted, tmp_path: Path, tracing_off: None) -> None:
    body, content_type = make_partial("protobuf", 2, "no")
    scripted.reply(body, headers={"Content-Type": content_type})
    configure(scripted, "otlp", tmp_path)
    record(2)
    (one,) = tracing.flush(10).destinations
    assert (one.stored, sum(one.set_aside.values())) == (0, 2)
    assert len(tracing.dead(spool_dir=tmp_path)) == 2


def test_a_warning_without_rejected_spans_is_a_success(
    scripted: Scripted, tmp_path: Path, tracing_off: None, caplog: pytest.LogCaptureFixture
) -> None:
    body, content_type = make_partial("protobuf", 0, "deprecated\x07")
    scripted.reply(body, headers={"Content-Type": content_type})
    configure(scripted, "otlp", tmp_path)
    record(2)
    assert tracing.flush(10)
    assert any(r"warns: deprecated\x07" in line for line in caplog.messages)


def test_a_sign_in_page_after_a_while(scripted: Scripted, tmp_path: Path, tracing_off: None) -> None:
    """A session that ends in the middle: what was taken is taken, the rest is kept and sent once it is back."""
    scripted.reply(b"", headers={"Content-Type": "application/x-protobuf"})
    configure(scripted, "otlp", tmp_path)
    record(2)
    assert tracing.flush(10)
    scripted.clear()
    scripted.reply(PAGE, headers={"Content-Type": "text/html"})
    record(3)
    result: Any = tracing.flush(10)
    assert result.kept == 3
    scripted.clear()
    scripted.reply(b"", headers={"Content-Type": "application/x-protobuf"})
    result = tracing.flush(10)
    assert (bool(result), result.stored) == (True, 3)
