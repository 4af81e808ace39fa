"""Parts of one trace from several processes: whichever comes, in whatever order, nothing hangs on a parent that is not
there, and where all parts have come the tree is whole.
"""

from __future__ import annotations

import json
import uuid
from itertools import permutations
from typing import Any

import mlflow
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from mlspan.tracing.export.mlflow.database import DatabaseStore
from mlspan.tracing.export.mlflow.sink import MlflowSink
from mlspan.tracing.export.mlflow.store import StoreDenied, StoreRejected
from mlspan.tracing.export.types import TraceSegment
from mlspan.tracing.operations.call_context import TraceOrigin

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": '{"a": "1"}'}]}]),
    "mlspan.input": '"quoted"',
    "number": 7,
    "list": ("a", "b"),
}
# By name: the parent's name, and the part that it is in. "gateway" sends nothing to MLflow.
TREE = {
    "agent": ("gateway", "agent"),
    "POST": ("agent", "agent"),
    "GET": ("POST", "tools"),
    "chat": ("GET", "tools"),
    "task": ("agent", "worker"),
}


@pytest.fixture(params=["mlflow_store", "mlflow_server"])
def uri(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def make_parts(trace_id: int, *, is_root: bool = False) -> dict[str, TraceSegment]:
    """The tree as the segments that three processes make of it. With *is_root*, "agent" has no parent."""
    ids = {name: number for number, name in enumerate(["gateway", *TREE], 0xAB0)}
    parts: dict[str, list[ReadableSpan]] = {}
    for name, (above, part) in TREE.items():
        own, parent = (
            SpanContext(trace_id, ids[each], is_remote=each is not name, trace_flags=TraceFlags(1))
            for each in (name, above)
        )
        scope = InstrumentationScope("mlspan" if name in {"chat", "task"} else "app")
        start = 1_700_000_000_000_000_000 + ids[name] * 1000
        parts.setdefault(part, []).append(
            ReadableSpan(
                name=name,
                context=own,
                parent=None if is_root and name == "agent" else parent,
                # a root that sends a request may be continued elsewhere: it is merged with what is stored
                kind=SpanKind.CLIENT if name == "POST" and not is_root else SpanKind.INTERNAL,
                attributes=CHAT | ({"gen_ai.usage.input_tokens": 3} if name in {"chat", "task"} else {}),
                instrumentation_scope=scope,
                start_time=start,
                end_time=start + 1000,
            )
        )
    return {
        part: TraceSegment(TraceOrigin(), tuple(spans), spans[0].context.span_id, whole=True)  # type: ignore[union-attr]  # it has one
        for part, spans in parts.items()
    }


def read(uri: str, trace_id: int) -> tuple[dict[str, str | None], Any]:
    """The tree that MLflow has, as each span's parent by name, and the trace."""
    found = mlflow.MlflowClient(uri).get_trace(f"tr-{trace_id:032x}")
    names = {span.span_id: span.name for span in found.data.spans}
    assert len(names) == len(found.data.spans)
    return {span.name: span.parent_id and names[span.parent_id] for span in found.data.spans}, found


@pytest.mark.parametrize("order", list(permutations(["agent", "tools", "worker"])), ids="-".join)
def test_the_tree_is_whole_in_any_order(uri: str, order: tuple[str, ...]) -> None:
    """After each part, every parent is there; after the last, the tree, and every attribute as it was sent."""
    trace_id, sink = uuid.uuid4().int, MlflowSink(tracking_uri=uri)
    parts = make_parts(trace_id)
    for part in order:
        assert sink.send([parts[part]]) == []
        tree, found = read(uri, trace_id)
    sink.close()
    roots = {"agent": None}
    assert tree == {name: above for name, (above, _) in TREE.items()} | roots
    assert found.info.trace_metadata["mlspan.missing_parent"] == f"{0xAB0:016x}"
    assert json.loads(found.info.trace_metadata["mlflow.trace.tokenUsage"])["input_tokens"] == 6
    chats = {span.name: span for span in found.data.spans}
    assert chats["chat"].inputs["messages"] == [{"role": "user", "content": '{"a": "1"}'}]
    said = {json.dumps(span.attributes.get("list")) for span in found.data.spans}
    assert said == {'["a", "b"]'}
    assert {span.attributes.get("number") for span in found.data.spans} == {7}
    named = {span.name: span.attributes.get("mlspan.missing_parent") for span in found.data.spans}
    assert named == {**dict.fromkeys(TREE), "agent": f"{0xAB0:016x}"}


@pytest.mark.parametrize("order", [("agent", "tools"), ("tools", "agent"), ("worker", "tools", "agent")], ids="-".join)
@pytest.mark.parametrize("is_root", [False, True], ids=["merged", "a root that looks whole"])
def test_parts_for_two_experiments(uri: str, order: tuple[str, ...], is_root: bool) -> None:
    """Each service names its own experiment: the trace stays whole, where its first part has put it."""
    other = mlflow.MlflowClient(uri).create_experiment(uuid.uuid4().hex)
    places = {"agent": "0", "tools": other, "worker": "0"}
    trace_id, sink = uuid.uuid4().int, MlflowSink(tracking_uri=uri)
    parts = {
        name: part._replace(origin=TraceOrigin(experiment_id=places[name]))
        for name, part in make_parts(trace_id, is_root=is_root).items()
    }
    for part in dict.fromkeys((*order, "worker")):
        assert sink.send([parts[part]]) == []
    sink.close()
    tree, found = read(uri, trace_id)
    assert tree.keys() == TREE.keys()
    assert json.loads(found.info.trace_metadata["mlflow.trace.tokenUsage"])["input_tokens"] == 6
    if not is_root:  # a server is not asked for the rest of a trace that looks whole
        assert tree == {name: above for name, (above, _) in TREE.items()} | {"agent": None}
        assert found.info.experiment_id == places[order[0]]


def test_all_parts_at_once(uri: str) -> None:
    """A spool that is drained sends all parts in one call: nothing is known of them before."""
    trace_id, sink = uuid.uuid4().int, MlflowSink(tracking_uri=uri)
    parts = make_parts(trace_id)
    assert sink.send([parts[part] for part in ("worker", "tools", "agent")]) == []
    sink.close()
    tree, _ = read(uri, trace_id)
    assert tree == {name: above for name, (above, _) in TREE.items()} | {"agent": None}


def test_a_part_whose_parent_never_comes(uri: str) -> None:
    """Its spans are roots, and the trace says below which span they were."""
    trace_id, sink = uuid.uuid4().int, MlflowSink(tracking_uri=uri)
    assert sink.send([make_parts(trace_id)["tools"]]) == []
    sink.close()
    tree, found = read(uri, trace_id)
    assert tree == {"GET": None, "chat": "GET"}
    missing = found.info.trace_metadata["mlspan.missing_parent"]
    assert missing == found.data.spans[0].attributes["mlspan.missing_parent"] == f"{0xAB2:016x}"


@pytest.mark.parametrize("denied", ["denied", "the whole experiment is gone"])
def test_an_experiment_that_refuses_a_part_of_another_ones_trace(
    denied: str, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That part waits; the other traces of its batch are stored in their own experiment."""
    other = mlflow.MlflowClient(mlflow_store).create_experiment(uuid.uuid4().hex)
    first, sink = make_parts(uuid.uuid4().int), MlflowSink(tracking_uri=mlflow_store)
    assert sink.send([first["agent"]._replace(origin=TraceOrigin(experiment_id="0"))]) == []
    write = DatabaseStore.write_traces

    def refuse(self: Any, experiment_id: str, traces: Any) -> None:
        if experiment_id == "0":
            raise StoreDenied("no") if denied == "denied" else StoreRejected("no", all_of_it=True)
        write(self, experiment_id, traces)

    monkeypatch.setattr(DatabaseStore, "write_traces", refuse)
    ids = [uuid.uuid4().int for _ in range(5)]
    own = [make_parts(trace_id, is_root=True)["agent"] for trace_id in ids]
    batch = [one._replace(origin=TraceOrigin(experiment_id=other)) for one in (*own[:3], first["tools"], *own[3:])]
    refused = sink.send(batch)
    assert [(one.item, one.keep, one.reason) for one in refused] == [(batch[3], True, "no")]
    assert [len(read(mlflow_store, trace_id)[0]) for trace_id in ids] == [2] * 5
    sink.close()


@pytest.mark.parametrize("away", [StoreDenied("no"), StoreRejected("no")], ids=["denied", "rejected"])
def test_a_trace_that_is_rejected_where_nothing_can_be_looked_up(
    away: Exception, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone is refused."""
    ids, sink = [uuid.uuid4().int for _ in range(5)], MlflowSink(tracking_uri=mlflow_store)
    batch = [make_parts(trace_id, is_root=True)["agent"] for trace_id in ids]
    write = DatabaseStore.write_traces

    def reject(self: Any, experiment_id: str, traces: Any) -> None:
        if any(int(one.summary.trace_id[3:], 16) == ids[2] for one in traces):
            raise StoreRejected("bad")
        write(self, experiment_id, traces)

    def fail(*_: object) -> None:
        raise away

    monkeypatch.setattr(DatabaseStore, "write_traces", reject)
    monkeypatch.setattr(DatabaseStore, "read_trace_summary", fail)
    assert [(one.item, one.keep) for one in sink.send(batch)] == [(batch[2], False)]
    assert [len(read(mlflow_store, trace_id)[0]) for trace_id in (*ids[:2], *ids[3:])] == [2] * 4
    sink.close()
