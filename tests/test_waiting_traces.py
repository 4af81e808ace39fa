"""Traces that wait for a person, from the graph that asks to the command line: a state, a question, one story."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Result, invoke
from otlp_lines import lines, span

from mlspan import tracing
from mlspan.cli import model
from mlspan.cli.mlflow_reader import MlflowReader
from mlspan.cli.opening import open_reader
from mlspan.cli.page import render_page
from mlspan.cli.places import StoreLocation
from mlspan.cli.reading import TraceFilter
from mlspan.tracing.export.mlflow.messages import preview_answer

mlflow = pytest.importorskip("mlflow")

GRAPH = {"gen_ai__operation__name": "invoke_workflow", "gen_ai__workflow__name": "order"}
TOOL = {"gen_ai__operation__name": "execute_tool", "gen_ai__tool__name": "buy"}


def asks(question: object) -> dict[str, Any]:
    return {"mlspan__interrupted": True, "mlspan__output": {"__interrupt__": [question]}}


def goes_on(found: dict[str, Any], trace: str, number: int, kind: str = "resumes") -> dict[str, Any]:
    """Return the span with a link to another."""
    about = [{"key": "mlspan.link", "value": {"stringValue": kind}}]
    link = {"traceId": trace.ljust(32, "0"), "spanId": f"{number:016x}", "attributes": about}
    return {**found, "links": [*found.get("links", []), link]}


MINUTE = 60_000
SPANS = [
    # One that waited, was gone on with, asked again, and was done in a third trace.
    span(
        "a1", 1, "order", at=0, ms=10, mlspan__input={"item": "kettle"}, **GRAPH, **asks({"question": "Buy a kettle?"})
    ),
    span("a1", 2, "check", 1, at=2, ms=5, mlspan__kind="node", **asks({"question": "Buy a kettle?"})),
    goes_on(span("a2", 3, "order", at=2 * MINUTE, ms=10, **GRAPH, **asks("Red or blue?")), "a1", 1),
    span("a2", 4, "check", 3, at=2 * MINUTE + 1, ms=3, mlspan__kind="node"),
    goes_on(
        span("a2", 5, "colour", 3, at=2 * MINUTE + 5, ms=3, mlspan__kind="node", **asks("Red or blue?")),
        "a2",
        4,
        "triggered_by",
    ),
    goes_on(span("a3", 6, "order", at=9 * MINUTE, ms=20, mlspan__output={"receipt": "blue"}, **GRAPH), "a2", 3),
    # One that still waits, below a span of the program's own.
    span("b1", 7, "request", at=20 * MINUTE, ms=30, mlspan__kind="chain"),
    span(
        "b1",
        8,
        "order",
        7,
        at=20 * MINUTE + 1,
        ms=20,
        **GRAPH,
        **asks({"action_requests": [{"name": "pay", "args": {"euro": 7}}]}),
    ),
    # One that waited and went on in the same trace, one that failed all the same, and one that never waited.
    span("c1", 9, "request", at=21 * MINUTE, ms=30, mlspan__kind="chain", mlspan__output="fine"),
    span("c1", 10, "order", 9, at=21 * MINUTE + 1, ms=5, **GRAPH, **asks("Sure?")),
    goes_on(span("c1", 11, "order", 9, at=21 * MINUTE + 9, ms=5, **GRAPH), "c1", 10),
    span("d1", 12, "request", at=22 * MINUTE, ms=30, mlspan__kind="chain", error="OSError: gone"),
    span("d1", 13, "order", 12, at=22 * MINUTE + 1, ms=5, **GRAPH, **asks("Sure?")),
    span("e1", 14, "order", at=23 * MINUTE, ms=5, **GRAPH),
    # A step that LlamaIndex has run again once it had the answer.
    span("f1", 15, "flow", at=24 * MINUTE, ms=30, **GRAPH),
    span("f1", 16, "step", 15, at=24 * MINUTE + 1, ms=2, mlspan__kind="step", mlspan__interrupted=True),
    span("f1", 17, "step", 15, at=24 * MINUTE + 9, ms=2, mlspan__kind="step"),
]
STATES = {"a1": "OK", "a2": "OK", "a3": "OK", "b1": "WAITING", "c1": "OK", "d1": "ERROR", "e1": "OK", "f1": "OK"}


@pytest.fixture(scope="module")
def known(_template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("waiting")
    shutil.copy(_template_store, folder / "mlflow.db")
    (folder / "spans.jsonl").write_text(lines(*SPANS))
    uri = f"sqlite:///{folder}/mlflow.db"
    done = invoke(["import", folder / "spans.jsonl", "--tracking-uri", uri])
    assert done.output.startswith("8 traces (17 spans) taken"), done.output
    return uri


Mlspan = Callable[..., Result]


@pytest.fixture
def mlspan(known: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mlspan]:
    monkeypatch.setenv("MLSPAN_TRACKING_URI", known)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield lambda *arguments: invoke(arguments)
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(params=["sql", "mlflow"])
def reader(known: str, request: pytest.FixtureRequest) -> Any:
    place = StoreLocation(known, None)
    return open_reader(place) if request.param == "sql" else MlflowReader(place)


def test_waiting_is_a_state(reader: Any) -> None:
    """Of what nothing has gone on with; each state is found alone, by each reader."""
    assert {trace.id[3:5]: trace.state for trace in reader.iterate_traces()} == STATES
    for state in ("WAITING", "OK", "ERROR"):
        found = [trace.id[3:5] for trace in reader.iterate_traces(TraceFilter(status=state))]
        assert found == [name for name in reversed(STATES) if STATES[name] == state]
    assert [trace.id[3:5] for trace in reader.iterate_traces(TraceFilter(status="OK"), limit=2)] == ["f1", "e1"]
    assert reader.fetch_trace("tr-" + "b1".ljust(32, "0")).state == "WAITING"


def test_a_story_is_told_from_each_of_its_traces(reader: Any) -> None:
    """In the order in which it happened, whichever trace was asked for."""
    for one in ("a1", "a2", "a3"):
        story = reader.read_story(reader.fetch_trace("tr-" + one.ljust(32, "0")))
        assert [trace.id[3:5] for trace in story] == ["a1", "a2", "a3"]
    alone = reader.fetch_trace("tr-" + "c1".ljust(32, "0"))
    assert reader.read_story(alone) == [alone]


def test_the_question_is_the_preview(known: str) -> None:
    """In MLflow as well, with a tag to search for."""
    found = mlflow.MlflowClient(known).search_traces(locations=["0"], filter_string="tags.`mlspan.waiting` = 'true'")
    shown = {trace.info.trace_id[3:5]: trace.info.response_preview for trace in found}
    assert shown == {"a1": "Buy a kettle?", "a2": "Red or blue?", "b1": 'pay({"euro":7})'}


@pytest.mark.parametrize(
    ("outputs", "preview"),
    [
        ({"__interrupt__": ["Go on?"], "messages": [{"role": "user", "content": "hi"}]}, "Go on?"),
        ({"__interrupt__": [{"kind": "colour", "message": "Which?"}, {"only": "This?"}]}, "Which?; This?"),
        ({"__interrupt__": [{"action_request": {"action": "pay", "args": {}}}]}, "pay({})"),
        ({"__interrupt__": [{"a": 1, "b": 2}]}, '{"a":1,"b":2}'),
        ({"__interrupt__": []}, '{"__interrupt__":[]}'),
        ({"__interrupt__": [None, {"action_requests": [None, 3]}]}, '{"action_requests":[null,3]}'),
        ({"waits_for": "HumanResponseEvent", "asks": {"prefix": "Your name?"}}, "Your name?"),
        ({"waits_for": "HumanResponseEvent", "asks": None}, "HumanResponseEvent"),
    ],
)
def test_what_is_asked(outputs: Any, preview: str) -> None:
    """The text of a question, the tools to be allowed, or else all that the graph has given."""
    assert preview_answer(outputs) == preview


def test_list(mlspan: Mlspan) -> None:
    """It waits, and asks; what was asked and answered is done."""
    line = mlspan("list", "--status", "waiting").stdout
    assert " ".join(line.split()) == 'b1000000 01 Jan 00:20 ? request 30 ms waits: pay({"euro":7})'
    (only,) = json.loads(mlspan("list", "--status", "waiting", "--json").stdout)
    assert (only["status"], only["question"], only["resumes"]) == ("WAITING", 'pay({"euro":7})', None)
    others = json.loads(mlspan("list", "--status", "ok", "--json").stdout)
    assert [(one["trace_id"][3:5], one["question"], one["resumes"] and one["resumes"][3:5]) for one in others] == [
        ("f1", None, None),
        ("e1", None, None),
        ("c1", None, None),
        ("a3", None, "a2"),
        ("a2", "Red or blue?", "a1"),
        ("a1", "Buy a kettle?", None),
    ]


STORY = """\
order  OK
10 ms · 3 spans · 2026-01-01 00:02:00
experiment Default · story 3 traces, 9m 00s
tr-a2000000000000000000000000000000

1 of 3  order  OK  a1000000  2026-01-01 00:00:00
order        ██████████████████████████████████████████   10 ms
kettle → Buy a kettle?
└─ check             █████████████████████               5.0 ms
   → Buy a kettle?
? Buy a kettle?
  answered after 2m 00s

2 of 3  order  OK  a2000000  2026-01-01 00:02:00  ← this trace
order        ██████████████████████████████████████████   10 ms
↰ resumes order in a1000000
→ Red or blue?
├─ check         ████████████▋                           3.0 ms
└─ colour                         ████████████▋          3.0 ms
   ↰ triggered by check
   → Red or blue?
? Red or blue?
  answered after 7m 00s

3 of 3  order  OK  a3000000  2026-01-01 00:09:00
order        ███████████████████████████████████████████  20 ms
↰ resumes order in a2000000
→ {"receipt":"blue"}
"""


def test_show_tells_one_story(mlspan: Mlspan, monkeypatch: pytest.MonkeyPatch) -> None:
    """All traces of it, what was asked and how long the answer took, and what each span is linked to."""
    monkeypatch.setenv("COLUMNS", "63")
    assert mlspan("show", "a2").stdout == STORY
    assert mlspan("show", "b1").stdout.splitlines()[-2:] == [
        '? pay({"euro":7})',
        "  waits for an answer since 2026-01-01 00:20:00",
    ]
    story = json.loads(mlspan("show", "a2", "--json").stdout)
    assert [one["trace_id"][3:5] for one in story["story"]] == ["a1", "a2", "a3"]
    assert story["spans"][0]["links"] == [
        {"kind": "resumes", "trace_id": "tr-" + "a1".ljust(32, "0"), "span_id": f"{1:016x}"}
    ]
    assert json.loads(mlspan("show", "c1", "--json").stdout)["story"] == []


def test_a_trace_that_is_gone(known: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A story that has lost a trace is told without it; its link says where it led."""
    shutil.copy(known.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        for table, key in (("spans", "trace_id"), ("trace_tags", "request_id"), ("trace_info", "request_id")):
            database.execute(f"DELETE FROM {table} WHERE {key} = ?", ("tr-" + "a1".ljust(32, "0"),))
    monkeypatch.setenv("MLSPAN_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    shown = invoke(["show", "a3"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "1 of 2  order" in shown.stdout
    assert "↰ resumes a span in a1000000\n" in shown.stdout


@pytest.mark.parametrize("width", [420, 1400])
def test_the_page_of_a_story(mlspan: Mlspan, browser: Any, tmp_path: Path, width: int) -> None:
    """A link leads to the span that it names, in another trace too; one button opens all rows, and closes them."""
    assert mlspan("show", "a3", "--html", tmp_path / "story.html").exit_code == 0
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto((tmp_path / "story.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator(".hint").inner_text().split("\n")[0].startswith("A click on a row opens it.")
    assert page.locator(".asked").all_inner_texts() == [
        "Buy a kettle? answered after 2m 00s",
        "Red or blue? answered after 7m 00s",
    ]
    page.get_by_text("order in a2000000").click()
    assert page.locator("details:target b").inner_text() == "order"
    assert page.locator("details[open]").count() == 0
    rows = page.locator("details").count()
    page.get_by_role("button", name="Open all").click()
    page.get_by_role("button", name="Close all").wait_for()
    assert page.locator("details[open]").count() == rows == 6
    page.get_by_role("button", name="Close all").click()
    page.get_by_role("button", name="Open all").wait_for()
    page.close()


def make_large_trace(spans: int) -> model.StoredTrace:
    """Return a trace with an agent, and below it this many calls, whose content would end the page's script."""
    found = [
        SimpleNamespace(
            span_id=f"{number + 1:016x}",
            parent_id=f"{1:016x}" if number else None,
            name=f"chat {number}",
            span_type="CHAT_MODEL",
            start_time_ns=10**18 + number * 10**6,
            end_time_ns=10**18 + number * 10**6 + 10**8,
            status=SimpleNamespace(status_code="OK"),
            inputs={
                "messages": [
                    {"role": "user", "content": f"</script><script>document.title = 'x'</script><!-- {number}"}
                ]
            },
            outputs="sunny",
            attributes={"mlflow.llm.cost": {"total_cost": 0.5}, "gen_ai.usage.cache_read.input_tokens": 3},
            events=[],
        )
        for number in range(spans)
    ]
    return model.build_trace("tr-1", found)


@pytest.mark.parametrize("spans", [20, 3_000])
def test_a_large_page(browser: Any, tmp_path: Path, spans: int) -> None:
    """What the rows of a large page hold is made as they are opened; the cost is there at 420 px as well."""
    (tmp_path / "large.html").write_text(render_page(make_large_trace(spans), {}))
    page = browser.new_page(viewport={"width": 420, "height": 800})
    page.goto((tmp_path / "large.html").as_uri())
    assert page.evaluate("document.querySelectorAll('*').length") < 50 * 20 + 16 * spans
    page.locator("summary").nth(3).click()
    pre = page.locator("details[open] pre").first
    pre.wait_for()
    assert pre.inner_text() == "</script><script>document.title = 'x'</script><!-- 3"
    name = page.locator("details[open] td").filter(has_text="cache").first
    assert name.inner_html() == "gen_<wbr>ai.<wbr>usage.<wbr>cache_<wbr>read.<wbr>input_<wbr>tokens"
    cost = page.locator("details[open] .cost")
    assert (cost.is_visible(), cost.inner_text()) == (True, "$0.50")
    page.get_by_role("button", name="Open all").click()
    page.get_by_role("button", name="Close all").wait_for()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("details").last.locator("pre").first.wait_for()
    assert page.title() == "chat 0"
    page.close()


def test_a_graph_of_langgraph(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the graph to the list: it waits, then it is answered."""
    pytest.importorskip("langgraph")
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Command, interrupt

    from mlspan import integrations

    monkeypatch.setenv("MLSPAN_TRACKING_URI", mlflow_store)
    tracing.configure(tracking_uri=mlflow_store)
    integrations.langgraph.autolog()
    graph = StateGraph(dict).add_node("check", lambda _: {"ok": interrupt({"question": "Buy it?"})})
    runnable = graph.add_edge(START, "check").add_edge("check", END).compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "order-7"}}
    try:
        for given, expected in (({"item": "kettle"}, [("WAITING", "Buy it?")]), (Command(resume=True), [])):
            runnable.invoke(given, thread)
            assert tracing.flush(120)
            found = json.loads(invoke(["list", "--status", "waiting", "--json"]).stdout)
            assert [(one["status"], one["question"]) for one in found] == expected
    finally:
        integrations.langgraph.autolog(disable=True)
        tracing.shutdown()
        tracing.configure()
