"""``mlspan export``: what is written is what is stored, and never half of it."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Result, invoke
from otlp_lines import lines, said, span
from servers.process import BoundedPopen

from mlspan.cli import exporting, otlp_encoding
from mlspan.cli.model import StoredSpan, StoredTrace, TokenCounts
from mlspan.cli.opening import open_reader
from mlspan.cli.otlp_encoding import encode_trace
from mlspan.cli.places import StoreLocation

pytest.importorskip("mlflow")

ROOT = Path(__file__).parent.parent
CHAT = {
    "gen_ai__operation__name": "chat",
    "gen_ai__provider__name": "openai",
    "gen_ai__request__model": "gpt-4o-mini",
    "gen_ai__usage__input_tokens": 7,
    "gen_ai__usage__output_tokens": 2,
    "gen_ai__input__messages": said("user", "h\u00e9llo \u2713"),
    "gen_ai__output__messages": said("assistant", "hi"),
}
LINKED = {
    **span("a1", 3, "execute_tool search", 1, at=20, gen_ai__operation__name="execute_tool", flag=True),
    "links": [
        {
            "traceId": "b2".ljust(32, "0"),
            "spanId": f"{1:016x}",
            "attributes": [{"key": "mlspan.link", "value": {"stringValue": "triggered_by"}}],
        }
    ],
}
SPANS = [
    span("a1", 2, "chat gpt-4o-mini", 1, at=10, ms=5, session__id="s1", user__id="ada", **CHAT),
    span("a1", 1, "step", ms=30, mlspan__tag__team="search"),
    LINKED,
    span("b2", 1, "chat gpt-4o-mini", at=100, error="pkg.TimeoutError: nobody answered", **CHAT),
]


@pytest.fixture
def empty_store(mlflow_store: str) -> bytes:
    """The file of a database without traces."""
    return Path(mlflow_store.removeprefix("sqlite:///")).read_bytes()


@pytest.fixture
def store(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with two traces, in whose resource is a tag that no span has."""
    monkeypatch.setenv("MLSPAN_TRACKING_URI", mlflow_store)
    found = [json.loads(line) for line in lines(*SPANS).splitlines()]
    for one in found:
        attributes = [{"key": "service.name", "value": {"stringValue": "shop"}}]
        one["resourceSpans"][0]["resource"] = {"attributes": attributes}
    assert invoke(["import", "-"], input="\n".join(map(json.dumps, found))).exit_code == 0
    return mlflow_store


def read_all(uri: str) -> list[tuple[StoredTrace, list[Any]]]:
    """All of a store by its reader, with what the reader's spans do not tell of events and links."""
    traces = open_reader(StoreLocation(uri, None)).iterate_traces(spans=True)
    return [
        (trace, [(one.source.events, one.source.links, one.source.status) for one in trace.spans])  # type: ignore[attr-defined]
        for trace in traces
    ]


def test_own_spans_stay_own(mlflow_store: str, empty_store: bytes, tmp_path: Path) -> None:
    """Spans of mlspan's get no attribute that they had not."""
    found = json.loads(lines(span("a1", 1, "chat gpt-4o-mini", **CHAT)))
    found["resourceSpans"][0]["scopeSpans"][0]["scope"] = {"name": "mlspan"}
    assert invoke(["import", "-", "--tracking-uri", mlflow_store], input=json.dumps(found)).exit_code == 0
    (tmp_path / "other.db").write_bytes(empty_store)
    other = f"sqlite:///{tmp_path}/other.db"
    written = export("--tracking-uri", mlflow_store).stdout
    assert invoke(["import", "-", "--tracking-uri", other], input=written).exit_code == 0
    assert read_all(other) == read_all(mlflow_store)


def test_spans_of_mlflows_own_tracing(mlflow_store: str) -> None:
    """They keep type, inputs, outputs, tokens, model, session and tags, which MLflow's names alone tell."""
    usage = {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}
    told = {"mlflow.spanInputs": "plain text", "mlflow.spanOutputs": ["a", {"b": None}], "mlflow.llm.model": "tiny"}
    call = make_span(
        1,
        span_type="CHAT_MODEL",
        attributes={"mlflow.spanType": "CHAT_MODEL", "mlflow.chat.tokenUsage": usage, "of.another": "a", **told},
        tokens=TokenCounts(7, 2, 9),
    )
    before = replace(make_trace(call), session="s1", user="ada", tags={"team": "search"})
    written = "\n".join(encode_trace(before))
    assert invoke(["import", "-", "--all", "--tracking-uri", mlflow_store], input=written).exit_code == 0
    ((after, _),) = read_all(mlflow_store)
    assert (after.id, after.session, after.user, after.tags) == (before.id, "s1", "ada", {"team": "search"})
    assert after.tokens == TokenCounts(7, 2, 9)
    (same,) = after.spans
    assert (same.span_type, same.model, same.tokens) == ("CHAT_MODEL", "tiny", call.tokens)
    assert (same.inputs, same.outputs) == ("plain text", ["a", {"b": None}])
    assert same.attributes["of.another"] == "a"


def export(*arguments: object) -> Result:
    return invoke(["export", *arguments])


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz", "all.jsonl.zst"])
def test_round_trip(name: str, empty_store: bytes, store: str, tmp_path: Path) -> None:
    """Export and import into an empty store: ids, names, times, attributes, status, events, links, tokens, labels."""
    if name.endswith(".zst") and not any(map(importlib.util.find_spec, ("zstandard", "compression"))):
        pytest.skip("no module for zstd")
    written = export(tmp_path / name)
    assert (written.exit_code, written.stdout) == (0, "")
    assert written.stderr == f"wrote 2 traces (4 spans) to {tmp_path / name}\n"
    (tmp_path / "other.db").write_bytes(empty_store)
    other = f"sqlite:///{tmp_path}/other.db"
    assert invoke(["import", tmp_path / name, "--tracking-uri", other]).exit_code == 0
    before, after = read_all(store), read_all(other)
    assert after == before
    traces = [trace for trace, _ in after]
    assert [trace.id[3:5] for trace in traces] == ["b2", "a1"]
    assert (traces[1].session, traces[1].user) == ("s1", "ada")
    assert traces[1].tags == {"team": "search", "service.name": "shop"}
    assert [link.kind for one in traces[1].spans for link in one.links] == ["triggered_by"]
    assert traces[0].spans[0].error_type == "TimeoutError"


def test_lines_are_requests(store: str) -> None:
    """Standard output has a request on each line, and nothing else."""
    done = export()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    names = [
        [one["name"] for scope in request["resourceSpans"][0]["scopeSpans"] for one in scope["spans"]]
        for request in found
    ]
    assert [sorted(some) for some in names] == [
        ["chat gpt-4o-mini"],
        ["chat gpt-4o-mini", "execute_tool search", "step"],
    ]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--status error", ["b2"]),
        ("--session s1", ["a1"]),
        ("--limit 1", ["b2"]),
        ("--since 1h", []),
        ("--experiment Default", ["b2", "a1"]),
    ],
)
def test_filters(options: str, expected: list[str], store: str) -> None:
    """The options of ``mlspan list``."""
    found = [json.loads(line) for line in export(*options.split()).stdout.splitlines()]
    ids = [one["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"][:2] for one in found]
    assert ids == expected


def test_a_file_is_not_overwritten(store: str, tmp_path: Path) -> None:
    """Unless ``--force`` says so; then it has the new traces."""
    file = tmp_path / "all.jsonl"
    file.write_text("mine", encoding="utf-8")
    refused = export(file)
    assert (refused.exit_code, file.read_text(encoding="utf-8")) == (2, "mine")
    assert refused.stderr == f"mlspan: {file} exists; --force replaces it (see: mlspan export --help)\n"
    assert export(file, "--force").exit_code == 0
    assert len(file.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz", "all.parquet"])
@pytest.mark.parametrize("old", [None, b"mine"])
def test_an_interrupted_export_leaves_no_half_file(
    name: str, old: bytes | None, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the first trace: what was there before is there, and nothing else."""
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    file = tmp_path / "out" / name
    file.parent.mkdir()
    if old is not None:
        file.write_bytes(old)
    checked: list[str] = []

    def interrupt(trace_id: str) -> str:
        if checked:
            raise KeyboardInterrupt
        checked.append(trace_id)
        return trace_id

    monkeypatch.setattr(exporting, "strip_trace_id", interrupt)
    assert export(file, "--force").exit_code == 130
    assert {one.name: one.read_bytes() for one in file.parent.iterdir()} == ({} if old is None else {name: old})


def test_a_folder_that_is_missing_is_named(store: str, tmp_path: Path) -> None:
    """One line, exit code 1."""
    done = export(tmp_path / "none" / "all.jsonl")
    assert done.exit_code == 1
    assert done.stderr == f"mlspan: cannot write {tmp_path / 'none' / 'all.jsonl'}: No such file or directory\n"


def test_a_reader_that_ends_early(store: str) -> None:
    """``| head``: no traceback and no word. The pipe has no reader before the first line is written."""
    command = [sys.executable, "-m", "mlspan.cli", "export"]
    with BoundedPopen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def make_span(number: int, **more: Any) -> StoredSpan:
    given = {"attributes": {}, "tokens": None, "span_type": "UNKNOWN"} | more
    return StoredSpan(
        f"{number:016x}", None, "one", start_ns=1, end_ns=2, failed=False, error=None, inputs=None, outputs=None,
        cost=None, **given,
    )  # fmt: skip


def make_trace(*spans: StoredSpan) -> StoredTrace:
    return StoredTrace(
        f"tr-{1:032x}", "one", "OK", 0, 1.0, "", "", "0", None, None, None, None, None, {}, spans
    )  # fmt: skip


def test_a_large_trace_is_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that a reader would refuse for its size is none."""
    monkeypatch.setattr(otlp_encoding, "_MAX_LINE_CHARACTERS", 1000)
    spans = [make_span(number, attributes={"text": "x" * 400}) for number in range(1, 8)]
    found = list(encode_trace(make_trace(*spans)))
    sizes = [len(json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]) for line in found]
    assert len(sizes) > 1
    assert sum(sizes) == 7


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, {"boolValue": True}),
        (2**63 - 1, {"intValue": str(2**63 - 1)}),
        (2**63, {"stringValue": str(2**63)}),
        (0.5, {"doubleValue": 0.5}),
        (float("nan"), {"doubleValue": "NaN"}),
        (float("-inf"), {"doubleValue": "-Infinity"}),
        (["a", "b"], {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}}),
        ([{"a": 1}], {"stringValue": '[{"a":1}]'}),
        ({"a": None}, {"stringValue": '{"a":null}'}),
        ("half \ud83d", {"stringValue": "half ?"}),
    ],
)
def test_values(value: object, expected: dict[str, Any]) -> None:
    """Each kind of value that a store can hold, in OTLP's JSON."""
    (line,) = encode_trace(make_trace(make_span(1, attributes={"it": value})))
    found = json.loads(line.encode())["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert found["attributes"] == [{"key": "it", "value": expected}]


def test_parquet(store: str, tmp_path: Path) -> None:
    """A row for each span, with times, tokens and labels as columns, and tags and attributes as JSON."""
    parquet = pytest.importorskip("pyarrow.parquet")
    assert export(tmp_path / "all.parquet").exit_code == 0
    rows = {(row["trace_id"][:2], row["name"]): row for row in parquet.read_table(tmp_path / "all.parquet").to_pylist()}
    assert len(rows) == 4
    chat, failed = rows["a1", "chat gpt-4o-mini"], rows["b2", "chat gpt-4o-mini"]
    assert (chat["input_tokens"], chat["output_tokens"], chat["model"]) == (7, 2, "gpt-4o-mini")
    assert (chat["type"], chat["provider"], chat["status"]) == ("CHAT_MODEL", "openai", "OK")
    assert (chat["session"], chat["user"], chat["experiment"]) == ("s1", "ada", "Default")
    assert (chat["span_id"], chat["parent_span_id"], chat["duration_ms"]) == (f"{2:016x}", f"{1:016x}", 5.0)
    assert chat["start"].isoformat() == "2026-01-01T00:00:00.010000+00:00"
    assert chat["cost_usd"] == pytest.approx(7 * 0.15e-6 + 2 * 0.6e-6)
    assert json.loads(chat["tags"]) == {"team": "search", "service.name": "shop"}
    assert json.loads(chat["attributes"])["gen_ai.input.messages"] == said("user", "h\u00e9llo \u2713")
    assert (failed["status"], failed["error_type"]) == ("ERROR", "TimeoutError")
    assert rows["a1", "step"]["cost_usd"] is None


def test_parquet_without_pyarrow(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "pyarrow" else find(name))
    done = export(tmp_path / "all.parquet")
    assert (done.exit_code, done.stderr) == (1, "mlspan: Parquet needs pyarrow: pip install pyarrow\n")


@pytest.mark.parametrize(("example", "needs"), [("cost_per_team", "duckdb"), ("cost_per_team_spark", "pyspark")])
def test_the_example_counts_cost_per_team(example: str, needs: str, store: str, tmp_path: Path) -> None:
    """By DuckDB and by Spark, from the file alone."""
    pytest.importorskip("pyarrow")
    pytest.importorskip(needs)
    if needs == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    assert export(tmp_path / "all.parquet").exit_code == 0
    command = [sys.executable, str(ROOT / f"examples/export/{example}.py"), str(tmp_path / "all.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "no team: $0.000002 for 1 calls with a known price, 9 tokens",
        "search: $0.000002 for 1 calls with a known price, 9 tokens",
    ]


def test_compressed_by_gzip_is_gzip(store: str, tmp_path: Path) -> None:
    """Any tool unpacks it."""
    assert export(tmp_path / "all.jsonl.gz").exit_code == 0
    assert gzip.decompress((tmp_path / "all.jsonl.gz").read_bytes()).decode() == export().stdout


def test_only_files_are_replaced(store: str, tmp_path: Path) -> None:
    """--force replaces no pipe or device; what a link leads to, and not the link."""
    pipe, link, file = tmp_path / "pipe", tmp_path / "link.jsonl", tmp_path / "file.jsonl"
    os.mkfifo(pipe)
    refused = invoke(["export", pipe, "--force", "--tracking-uri", store])
    assert (refused.exit_code, pipe.is_fifo()) == (2, True)
    assert refused.stderr == f"mlspan: {pipe} is no file; - writes to standard output (see: mlspan export --help)\n"
    file.write_text("old")
    link.symlink_to(file)
    assert invoke(["export", link, "--force", "--tracking-uri", store]).exit_code == 0
    assert link.is_symlink()
    assert "resourceSpans" in file.read_text()
    assert list(tmp_path.glob(".*.part")) == []
