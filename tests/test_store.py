"""What the exporter leaves in MLflow's database: the same rows, whichever way it takes."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from servers.mariadb import find_missing, mariadb
from servers.postgres import postgres, require_postgres

pytest.importorskip("mlflow")

from mlspan import _guard, _private_names
from mlspan.tracing.export.mlflow import bulk_insert, database
from mlspan.tracing.export.mlflow.sink import MlflowSink
from mlspan.tracing.export.sending.executor import BoundedExecutor
from mlspan.tracing.export.types import BackendUnavailable, TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel
START = 1_700_000_000_000_000_000
LATER = 10**9  # nanoseconds, and the id of a span that starts so much later


def said(role: str, text: str, *more: Any) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}, *more]}])


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 5,
    "gen_ai.input.messages": said("user", "wie geht's — ça va?"),
    "gen_ai.output.messages": said("assistant", "Gut."),
}
SPANS: dict[str, Mapping[str, Any]] = {
    "chat": CHAT,
    "chat with tools": {
        **CHAT,
        "gen_ai.tool.definitions": json.dumps([{"type": "function", "name": "f", "parameters": {"type": "object"}}]),
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
    },
    "chat without content": {key: value for key, value in CHAT.items() if not key.endswith("messages")},
    "unpriced": {**CHAT, "gen_ai.request.model": "my-own"},
    "tool": {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "get_weather",
        "gen_ai.tool.call.arguments": '{"city": "Paris"}',
        "gen_ai.tool.call.result": '"sunny"',
    },
    "agent": {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a", "mlspan.input": '"q"'},
    "workflow": {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "w"},
    "retrieval": {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.retrieval.query.text": "what?",
        "gen_ai.retrieval.documents": '[{"id": "1", "content": "text", "score": 0.5}]',
    },
    "embeddings": {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": 3,
    },
    "step": {"mlspan.kind": "chain", "mlspan.input": '{"a": [1, 2.5, null]}', "mlspan.output": '"{\\"b\\": 1}"'},
    "who": {**CHAT, "session.id": "s-1", "user.id": "ada", "mlspan.tag.env": "test", "mlspan.client_request.id": "r1"},
    "odd": {"mlspan.kind": "step", "number": 7, "flag": True, "text": "123", "json": '{"a": 1}', "list": ("a", "b")},
    "json in json": {
        "mlspan.kind": "step",
        "text": '"quoted"',
        "deeper": json.dumps(json.dumps({"a": 1})),
        "list": "[1]",
        "none": "null",
        "half": '{"a"',
        "mlspan.input": json.dumps('{"a": 1}'),
        "mlspan.output": json.dumps(json.dumps(json.dumps([1]))),
    },
    "someone else's": {"span.type": "llm_request", "new_context": "hello", "input_tokens": 1},  # MLflow counts it
}


def span(
    trace_id: int, span_id: int, parent: SpanContext | int | None, name: str, attributes: Mapping[str, Any], **more: Any
) -> ReadableSpan:
    here, above = (
        SpanContext(trace_id, id, is_remote=False, trace_flags=TraceFlags(1)) if isinstance(id, int) else id
        for id in (span_id, parent)
    )
    scope = InstrumentationScope("elsewhere" if name == "someone else's" else "mlspan", "0")
    return ReadableSpan(
        name,
        here,
        above,
        Resource({"service.name": "app", "deployment.environment.name": "test"}),
        attributes,
        start_time=START + span_id,
        end_time=START + 10**9 + span_id,
        instrumentation_scope=scope,
        **more,
    )


def make_segment(*named: str, origin: TraceOrigin | None = None, **more: Any) -> TraceSegment:
    """A trace whose root is the first of SPANS that is *named*, the others below it."""
    trace_id = random.getrandbits(127) + 1
    spans = [
        span(trace_id, number + 1, 1 if number else None, name, SPANS[name], **({} if number else more))
        for number, name in enumerate(named)
    ]
    return TraceSegment(origin or TraceOrigin(), tuple(spans), 1, whole=True)


def everything() -> list[TraceSegment]:
    """One trace of each kind of span, one of all, one that failed, one with a link."""
    error = Event("exception", {"exception.type": "ValueError", "exception.message": "no"}, timestamp=START + 5)
    link = Link(SpanContext(7, 8, is_remote=False), {"mlspan.link": "asked_by"})
    return [
        *(make_segment(name) for name in SPANS),
        make_segment(*SPANS),
        make_segment("chat", status=Status(StatusCode.ERROR, "no"), events=[error]),
        make_segment("tool", "chat", links=[link]),
        *(make_segment("chat", "tool", kind=kind) for kind in SpanKind),
        make_segment("chat", origin=TraceOrigin(session="s", user="u", tags={"service.name": "mine", "k": "v" * 5000})),
    ]


TABLES = ("trace_info", "trace_tags", "trace_request_metadata", "spans", "entity_associations", "assessments")


def rows(store: str) -> dict[str, list[Any]]:
    """All that the tables of traces hold, but for what says who wrote it when."""
    import sqlalchemy

    own = {"db_payload_generation", "association_id", "created_time"}
    found: dict[str, list[Any]] = {}
    engine = sqlalchemy.create_engine(store)
    with engine.connect() as connection:
        for table in TABLES:
            read = connection.execute(sqlalchemy.text(f"select * from {table}")).mappings()
            kept = [{key: value for key, value in row.items() if key not in own} for row in read]
            for row in kept:
                if "content" in row:
                    row["content"] = json.loads(row["content"])
                if row.get("key") == "mlflow.artifactLocation":
                    row["value"] = row["value"].rpartition("/traces/")[2]
            found[table] = sorted(kept, key=str)
    engine.dispose()
    return found


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The addresses of two databases, both empty."""
    if request.param == "sqlite":
        template = request.getfixturevalue("_template_store")
        for name in ("one", "other"):
            shutil.copy(template, tmp_path / f"{name}.db")
        yield f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/other.db"
        return
    if request.param == "mariadb":
        pytest.importorskip("pymysql")
        if (missing := find_missing()) is not None:
            pytest.skip(missing)
        with mariadb() as one, mariadb() as other:
            yield one, other
        return
    require_postgres()
    with postgres() as (address, _):
        yield f"{address}/postgres", f"{address}/template1"


def store_in(uri: str, segments: Sequence[TraceSegment], **more: Any) -> list[str]:
    sink = MlflowSink(tracking_uri=uri, **more)
    try:
        return [refused.reason for refused in sink.send(segments)]
    finally:
        sink.close()


def by_the_stores_own_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "make_bulk_insert", lambda store: None)


def test_both_ways_leave_the_same_rows(two: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction for a batch of new traces leaves what ``log_spans`` and ``start_trace`` leave, row by row."""
    segments = everything()
    written: list[int] = []
    write = bulk_insert.BulkInsert.insert_traces

    def counting(self: Any, experiment_id: str, traces: Sequence[Any]) -> list[Any]:
        left = write(self, experiment_id, traces)
        written.append(len(traces) - len(left))
        return left

    monkeypatch.setattr(bulk_insert.BulkInsert, "insert_traces", counting)
    assert store_in(two[0], segments) == []
    assert written == [len(segments) - 2]  # but for those with somebody else's model call
    by_the_stores_own_methods(monkeypatch)
    assert store_in(two[1], segments) == []
    assert len(written) == 1
    ours, theirs = rows(two[0]), rows(two[1])
    for table in TABLES:
        for one, other in zip(ours[table], theirs[table], strict=True):
            assert one == other, table
    assert len(ours["trace_info"]) == len(segments)


def test_a_trace_sent_twice_is_stored_once(mlflow_store: str) -> None:
    """The second time it takes the store's own methods, and changes nothing."""
    segments = everything()[-4:]
    assert store_in(mlflow_store, segments[:2]) == []
    assert store_in(mlflow_store, segments) == []
    once = rows(mlflow_store)
    assert store_in(mlflow_store, [*segments, *segments]) == []
    assert rows(mlflow_store) == once


def test_two_parts_of_a_trace_in_one_batch(mlflow_store: str) -> None:
    """Two requests under one remote parent, sent together: one trace, from first start to last end, all tokens."""
    trace_id = random.getrandbits(127) + 1
    far = SpanContext(trace_id, 99, is_remote=True, trace_flags=TraceFlags(1))
    parts = [
        TraceSegment(TraceOrigin(), (span(trace_id, number, far, "chat", CHAT),), number, whole=True)
        for number in (1, 10**9)
    ]
    assert store_in(mlflow_store, parts) == []
    (info,) = rows(mlflow_store)["trace_info"]
    assert (info["execution_time_ms"], info["total_tokens"]) == (2000, 34)
    assert len(rows(mlflow_store)["spans"]) == 2


ROOT = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "a",
    "mlspan.input": '"q"',
    "mlspan.output": '"r"',
}
FAILED = {**CHAT, "gen_ai.input.messages": said("user", "again"), "gen_ai.output.messages": said("assistant", "no")}


@pytest.mark.parametrize("order", ["root first", "root last", "root between", "one batch"])
@pytest.mark.parametrize("way", ["bulk", "own methods"])
def test_the_root_leads_whenever_it_lands(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch, order: str, way: str
) -> None:
    """Of a trace in parts, name, previews and state are the root's, and the duration is that of all."""
    if way == "own methods":
        by_the_stores_own_methods(monkeypatch)
    trace_id = random.getrandbits(127) + 1
    far = SpanContext(trace_id, 1, is_remote=True, trace_flags=TraceFlags(1))
    root, early, late = (
        TraceSegment(TraceOrigin(), (span(trace_id, number, parent, name, attributes),), number, whole=True)
        for number, parent, name, attributes in (
            (1, None, "invoke_agent caller", ROOT),
            (10**9, far, "chat gpt-4o-mini", CHAT),
            (2 * 10**9, far, "chat gpt-4o-mini", FAILED),
        )
    )
    parts = {"root first": [root, early, late], "root between": [early, root, late]}.get(order, [early, late, root])
    for batch in [parts] if order == "one batch" else [[part] for part in parts]:
        assert store_in(mlflow_store, batch) == []
    (info,) = rows(mlflow_store)["trace_info"]
    assert info["trace_name"] == "invoke_agent caller"
    assert (info["request_preview"], info["response_preview"]) == ("q", "r")
    assert (info["execution_time_ms"], info["total_tokens"], info["status"]) == (3000, 34, "OK")
    assert len(rows(mlflow_store)["spans"]) == 3


def test_another_process_was_faster(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a trace turns up between the look and the write, the batch is written by the store's own methods."""
    segments = everything()[:3]
    assert store_in(mlflow_store, segments[1:2]) == []
    monkeypatch.setattr(bulk_insert.BulkInsert, "find_stored", lambda self, ids: set())
    assert store_in(mlflow_store, segments) == []
    assert len(rows(mlflow_store)["trace_info"]) == 3


def test_the_experiment_of_a_run_is_all_that_is_read_of_it(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways find it, of a deleted run too; the bulk insert reads nothing of what was logged to the run."""
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_store)
    runs = [client.create_run(one).info.run_id for one in ("0", client.create_experiment("runs"))]
    client.delete_run(runs[1])
    asked = [*runs, "f" * 32]

    def find_all() -> list[str | None]:
        store = database.DatabaseStore(mlflow_store, BoundedExecutor(1))
        return list(map(store.find_experiment_of_run, asked))

    with monkeypatch.context() as patch:
        by_the_stores_own_methods(patch)
        found = find_all()
    assert found == ["0", client.get_run(runs[1]).info.experiment_id, None]

    def read_all(*_: object) -> object:
        raise AssertionError("all that was logged to the run is read")

    monkeypatch.setattr("mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore.get_run", read_all)
    assert find_all() == found


def test_statements_of_a_batch_of_runs(mlflow_store: str) -> None:
    """A loop of trainings starts a run for each: those of a batch are looked up at once, and the batch is one write."""
    from mlflow import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    client = MlflowClient(mlflow_store)
    runs = [client.create_run("0").info.run_id for _ in range(20)]
    sink = MlflowSink(tracking_uri=mlflow_store)
    sink.send([make_segment("chat")])  # opens the database
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("PRAGMA"):
            said.append(f"{statement.split(maxsplit=1)[0]} {statement.partition('FROM ')[2].partition(' ')[0]}".strip())

    event.listen(Engine, "before_cursor_execute", note)
    try:
        origins = [TraceOrigin(run_id=run_id) for run_id in (*runs, "f" * 32)]
        assert sink.send([make_segment("chat", origin=origin) for origin in origins]) == []
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        sink.close()
    looked_up = ["SELECT runs"] * 2  # of all, and that which is not there once more
    assert said[:2] == looked_up
    experiment = ["SELECT experiments", "SELECT experiment_tags"]
    assert [line for line in said[2:] if line not in experiment] == [
        "SELECT trace_info",
        *["INSERT"] * 4,
    ]
    found = {row["value"] for row in rows(mlflow_store)["trace_request_metadata"] if row["key"] == "mlflow.sourceRun"}
    assert found == {*runs}


def test_an_mlflow_that_nobody_has_checked(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version, or another schema, is written by its own methods."""
    from mlflow.tracking._tracking_service.utils import _get_store

    opened = _get_store(mlflow_store)
    assert bulk_insert.make_bulk_insert(opened) is not None
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.__version__", "3.99.0")
        assert bulk_insert.make_bulk_insert(opened) is None
    with monkeypatch.context() as patch:
        patch.setitem(bulk_insert._COLUMNS, "SqlTraceTag", {"request_id", "key", "value", "new"})
        assert bulk_insert.make_bulk_insert(opened) is None
    monkeypatch.setenv("MLFLOW_SQL_TRACE_ROLLUPS_ENABLED", "true")
    assert bulk_insert.make_bulk_insert(opened) is None


def test_an_mlflow_without_a_name_of_the_fast_way(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the bulk insert cannot find, whatever it is, sends all traces MLflow's own way, with one line."""

    def lacking(self: Any, *_: Any) -> Any:
        raise AttributeError("no attribute '_table_of_spans'", name="_table_of_spans")

    monkeypatch.setattr(_guard, "_logged_lines", {})
    monkeypatch.setattr(_private_names, "_missing", {})
    monkeypatch.setattr(bulk_insert.BulkInsert, "insert_traces", lacking)
    assert store_in(mlflow_store, everything()[:3]) == []
    assert len(rows(mlflow_store)["trace_info"]) == 3
    (line,) = (line for line in caplog.messages if "_table_of_spans" in line)
    assert line.startswith(
        "mlspan: this version of MLflow has no _table_of_spans, so new traces are stored by its own "
    )


def test_an_mlflow_without_links_from_traces_to_prompts(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow 3.6 goes by the tag of the trace: no trace is set aside for that."""
    from mlflow.store.tracking.abstract_store import AbstractStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for store in (AbstractStore, SqlAlchemyStore):
        monkeypatch.delattr(store, "link_prompts_to_trace")
    monkeypatch.setitem(SPANS, "prompted", {**SPANS["chat"], "mlspan.prompts": ("greeting/3",)})
    assert store_in(mlflow_store, [make_segment("prompted")]) == []
    (tag,) = (row["value"] for row in rows(mlflow_store)["trace_tags"] if row["key"] == "mlflow.linkedPrompts")
    assert json.loads(tag) == [{"name": "greeting", "version": "3"}]


def test_a_locked_database_is_away(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's long transaction is no reason to lose a trace: the batch is worth another try."""
    sink = MlflowSink(tracking_uri=mlflow_store)
    sink.send([make_segment("chat")])
    from sqlalchemy.exc import OperationalError

    def locked(self: Any, experiment_id: str, traces: Sequence[Any]) -> Any:
        with self._store.ManagedSessionMaker(read_only=False):
            raise OperationalError("insert", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(bulk_insert.BulkInsert, "insert_traces", locked)
        with pytest.raises(BackendUnavailable, match="database is locked"):
            sink.send([make_segment("chat")])
    assert len(rows(mlflow_store)["trace_info"]) == 1


def test_two_hundred_traces_a_second(mlflow_store: str) -> None:
    """A floor far below what is measured (see docs/performance.md), so that a trip per trace cannot creep back in."""
    sink = MlflowSink(tracking_uri=mlflow_store)
    sink.send([make_segment("chat")])
    segments = [make_segment("chat") for _ in range(200)]
    started = time.process_time()
    sink.send(segments)
    assert time.process_time() - started < 1
