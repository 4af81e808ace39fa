"""LiteLLM's proxy in a process of its own, before a server that a test scripts: a request's trace goes through it."""

from __future__ import annotations

import importlib.util
import json
import secrets
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_chunks import ANSWER, HELLO, WHOLE
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers.process import Process, free_port

KEY = f"sk-{secrets.token_hex(32)}"
PROGRAM = Path(sys.executable).with_name("litellm")
if not PROGRAM.exists() or importlib.util.find_spec("fastapi_sso") is None:  # of litellm's extra "proxy"
    pytest.skip("in the nox session litellm_proxy", allow_module_level=True)


@pytest.fixture
def proxy(scripted: Any, receiver: Any, tmp_path: Path) -> Iterator[int]:
    """The port of a proxy that mlspan runs."""
    served = {"model": "openai/m", "api_base": scripted.base_url, "api_key": "test"}
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"model_list": [{"model_name": "ours", "litellm_params": served}]}))
    port = free_port()
    command = [sys.executable, "-m", "mlspan.cli", "run", str(PROGRAM), "--config", str(config), "--port", str(port)]
    where = {
        "MLSPAN_OTLP_ENDPOINT": receiver.url,
        "MLSPAN_TRACKING_URI": "none",
        "MLSPAN_SPOOL_DIR": str(tmp_path / "spool"),
    }
    own = {
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "MLSPAN_SPOOL_DIR": str(tmp_path / "spool"),
    }
    process = Process([*command, "--host", "127.0.0.1"], port, tmp_path / "log", env={**where, **own})
    try:
        process.wait(150)
        yield port
    finally:
        process.stop()


def ask(port: int, traceparent: str, **more: Any) -> bytes:
    body = json.dumps({"model": "ours", "messages": HELLO, **more}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    headers["traceparent"] = traceparent
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return bytes(answer.read())


def read_spans(receiver: Any, count: int) -> list[Any]:
    """Return the spans that have arrived, once there are *count*."""
    for _ in range(600):
        found = []
        for body in list(receiver.bodies):
            sent = ExportTraceServiceRequest.FromString(body)
            found += [span for one in sent.resource_spans for scope in one.scope_spans for span in scope.spans]
        if len(found) >= count:
            return found
        time.sleep(0.1)
    pytest.fail(f"{len(found)} of {count} spans have arrived")


@pytest.mark.timeout(400)
def test_a_requests_trace_goes_through_the_proxy(proxy: int, scripted: Any, receiver: Any) -> None:
    """The proxy's spans are in the trace of the caller's header, whole answers and streams, each in its own."""
    scripted.reply(ANSWER)
    assert b"One two." in ask(proxy, f"00-{1:032x}-{1:016x}-01")
    scripted.clear()
    scripted.stream(*WHOLE)
    assert b"two." in ask(proxy, f"00-{2:032x}-{2:016x}-01", stream=True)
    spans = read_spans(receiver, 4)
    assert sorted((int.from_bytes(span.trace_id, "big"), span.name) for span in spans) == [
        (1, "chat m"),
        (1, "route ours"),
        (2, "chat m"),
        (2, "route ours"),
    ]
    roots = {span.trace_id[-1]: span.parent_span_id[-1] for span in spans if span.name == "route ours"}
    assert roots == {1: 1, 2: 2}
