"""The same traces by OTLP to a backend that we did not write, and to MLflow: both hold the same."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

mlflow = pytest.importorskip("mlflow")
openai = pytest.importorskip("openai")

from mlspan import integrations, tracing

USAGE = {
    "gen_ai.provider.name": "openai",
    "gen_ai.usage.input_tokens": 120,
    "gen_ai.usage.cache_read.input_tokens": 100,
    "gen_ai.usage.output_tokens": 30,
}
# Trace, span, parent, status, start and end: in microseconds, which a backend that keeps no more may round.
SpanFacts = tuple[str, str, str | None, str, int, int]


@pytest.fixture
def store(mlflow_store: str, tracing_off: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("MLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    mlflow.set_tracking_uri(mlflow_store)
    yield mlflow_store
    mlflow.set_tracking_uri(None)


def traces(client: Any) -> list[str | None]:
    """A few of all kinds: an agent with a call to a model and a tool, streams, failures, spans that end late."""
    ids = []
    ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    with tracing.span("agent", kind="agent"):
        ids.append(tracing.current_trace_id())
        client.chat.completions.create(**ask)
        with tracing.span("look up", kind="tool") as tool, tracing.span("gpt-4o", kind="chat", attributes=USAGE):
            tool.output = "found"
    with tracing.span("streams", kind="workflow"):
        ids.append(tracing.current_trace_id())
        read = client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask)
        left = client.chat.completions.create(stream=True, **ask)
        next(iter(left))
        left.close()
    list(read)  # after its parent has ended
    with pytest.raises(ValueError, match="no"), tracing.span("failing", kind="workflow"):
        ids.append(tracing.current_trace_id())
        with tracing.span("broken", kind="tool"):
            raise ValueError("no")
    return ids


def of_phoenix(url: str, session: str, count: int) -> tuple[list[SpanFacts], dict[str, tuple[int, int]]]:
    """What it has of each span, and the tokens of each trace; it may take a while to have them."""
    found: list[Any] = []
    until = time.monotonic() + 60
    while len(found) < count and time.monotonic() < until:
        answer = requests.get(f"{url}/v1/projects/default/spans?limit=1000", timeout=20)
        spans = answer.json().get("data", []) if answer.ok else []
        found = [span for span in spans if span["attributes"].get("session.id") == session]
        time.sleep(0.5)
    tokens: dict[str, tuple[int, int]] = {}
    for span in found:
        given, taken = tokens.get(span["context"]["trace_id"], (0, 0))
        attributes = span["attributes"]
        given += attributes.get("gen_ai.usage.input_tokens", attributes.get("llm.token_count.prompt", 0))
        taken += attributes.get("gen_ai.usage.output_tokens", attributes.get("llm.token_count.completion", 0))
        tokens[span["context"]["trace_id"]] = given, taken
    facts: list[SpanFacts] = [
        (
            *(span["context"]["trace_id"], span["context"]["span_id"], span["parent_id"]),
            *(span["status_code"], microseconds(span["start_time"]), microseconds(span["end_time"])),
        )
        for span in found
    ]
    return sorted(facts), tokens


def microseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime.fromtimestamp(0, timezone.utc)) // timedelta(microseconds=1)


def of_mlflow(ids: list[str | None]) -> tuple[list[SpanFacts], dict[str, tuple[int, int]]]:
    facts: list[SpanFacts] = []
    tokens = {}
    for id in ids:
        found = mlflow.get_trace(f"tr-{id}")
        usage = found.info.token_usage or {}
        tokens[str(id)] = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        for span in found.data.spans:
            start, end = span.start_time_ns // 1000, span.end_time_ns // 1000
            facts.append((str(id), span.span_id, span.parent_id, span.status.status_code.value, start, end))
    return sorted(facts), tokens


def test_two_backends_hold_the_same(phoenix: Any, store: str, aimock: str) -> None:
    """Ids, parents, times, status and the sums of tokens, trace by trace and span by span."""
    session = uuid.uuid4().hex
    tracing.configure(tracking_uri=store, otlp_endpoint=phoenix.http, service_name="mlspan-test")
    integrations.openai.autolog()
    with openai.OpenAI(base_url=aimock, api_key="test", max_retries=0) as client, tracing.session(session):
        ids = traces(client)
    assert tracing.flush(60)
    spans, tokens = of_mlflow(ids)
    spans_there, tokens_there = of_phoenix(phoenix.http, session, len(spans))
    assert [facts[:4] for facts in spans] == [facts[:4] for facts in spans_there]
    for (*_, start, end), (*_, start_there, end_there) in zip(spans, spans_there, strict=True):
        assert (start_there, end_there) == (pytest.approx(start, abs=1, rel=0), pytest.approx(end, abs=1, rel=0))
    assert tokens == tokens_there
    assert len(spans) == 9
    assert [tokens[str(id)] for id in ids] == [(132, 35), (12, 5), (0, 0)]
