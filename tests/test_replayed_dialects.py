"""Spans of other instrumentations by all three doors: live, left on disk and drained, and imported from a file.

What MLflow has stored of each recording is the tree that ``tests/test_dialects.py`` lists, but for what MLflow itself
fills in where we say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke

mlflow = pytest.importorskip("mlflow")

from servers.process import free_port
from test_dialects import FIXTURES, TREES, recorded

from mlspan import tracing

RECORDINGS = [name for name in TREES if name != "mcp"]  # MCP's requests alone are no traces of GenAI


def end_all_spans() -> None:
    """Have the recorded spans begin, and end in the order of the file, in the provider that mlspan listens to."""
    listener: Any = tracing.tracer_provider()._active_span_processor  # type: ignore[attr-defined]
    for name in RECORDINGS:
        spans = recorded(name)
        for span in sorted(spans, key=lambda span: (span.start_time or 0, -(span.end_time or 0))):
            listener.on_start(span)
        for span in spans:
            listener.on_end(span)


def send_live(store: str, folder: Path) -> None:
    tracing.configure(tracking_uri=store, spool_dir=folder / "spool")
    end_all_spans()
    assert tracing.flush(120)
    tracing.shutdown(60)


def leave_and_drain(store: str, folder: Path) -> None:
    """End all spans while the server is away, and send what is on disk afterwards."""
    tracing.configure(tracking_uri=f"http://127.0.0.1:{free_port()}", spool_dir=folder / "spool")
    end_all_spans()
    assert not tracing.flush(0.5)
    tracing.shutdown(0.5)
    drained = tracing.drain(spool_dir=folder / "spool", tracking_uri=store)
    assert (drained.stay, drained.refused, dict(drained.reasons)) == (0, 0, {})
    assert drained.sent == sum(len(recorded(name)) for name in RECORDINGS)


def import_file(store: str, folder: Path) -> None:
    """Import all recordings as one file."""
    file = folder / "all.jsonl"
    file.write_bytes(b"".join((FIXTURES / f"{name}.jsonl").read_bytes() for name in RECORDINGS))
    done = invoke(["import", "--tracking-uri", store, str(file)])
    assert done.exit_code == 0, done.output


FILLED_IN = {  # what MLflow reads from the attributes of other conventions by itself -> what we say
    " (strands-agents)": "",
    "stt [LLM]": "stt [UNKNOWN]",
    "tts [LLM]": "tts [UNKNOWN]",
    "sunny -> [0.1,0.2] (chat-42)": "sunny -> None (chat-42)",
}
DOORS = {"live": send_live, "replayed": leave_and_drain, "imported": import_file}


def tell_stored(trace: Any) -> list[str]:
    """Return what a person sees of a stored trace, as :func:`test_dialects.tell` has it, in no order."""
    spans = {span.span_id: span for span in trace.data.spans}

    def find_depth(span: Any) -> int:
        return 1 + find_depth(spans[span.parent_id]) if span.parent_id in spans else 0

    lines = []
    for span in spans.values():
        usage = span.get_attribute("mlflow.chat.tokenUsage")
        tokens = f" {usage['input_tokens']}/{usage['output_tokens']}" if usage else ""
        model, provider = span.get_attribute("mlflow.llm.model"), span.get_attribute("mlflow.llm.provider")
        said = " ".join(filter(None, [f"[{span.span_type}]{tokens}", model, provider and f"({provider})"]))
        lines.append(f"{'  ' * find_depth(span)}{span.name} {said}")
    session = trace.info.trace_metadata.get("mlflow.trace.session")
    preview = f"{trace.info.request_preview} -> {trace.info.response_preview}"
    told = "\n".join([*lines, preview + (f" ({session})" if session else "")])
    for theirs, ours in FILLED_IN.items():
        told = told.replace(theirs, ours)
    return told.splitlines()


@pytest.fixture(scope="module", params=DOORS)
def stored(
    request: pytest.FixtureRequest, _template_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Any]]:
    """All recordings, sent by one of the doors: what MLflow has, by the id of the trace."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "mlflow.db").write_bytes(_template_store.read_bytes())
    store = f"sqlite:///{folder}/mlflow.db"
    tracing.shutdown(10)
    try:
        DOORS[request.param](store, folder)
        yield {one.info.trace_id: one for one in mlflow.MlflowClient(store).search_traces(["0"], max_results=100)}
    finally:
        tracing.shutdown(10)
        tracing.configure()


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_stored_as_listed(name: str, stored: Mapping[str, Any]) -> None:
    """Types, parents, tokens that count once, models, previews and session, whichever way the spans have come."""
    ids = dict.fromkeys(f"tr-{span.get_span_context().trace_id:032x}" for span in recorded(name))
    told = [line for id in ids for line in tell_stored(stored[id])]
    assert sorted(told) == sorted(TREES[name].splitlines())
    for trace in map(stored.__getitem__, ids):
        counted = [usage for span in trace.data.spans if (usage := span.get_attribute("mlflow.chat.tokenUsage"))]
        assert (trace.info.token_usage or {}).get("total_tokens", 0) == sum(one["total_tokens"] for one in counted)
