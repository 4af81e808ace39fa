"""``mlspan stats`` by each group and by time, as text, JSON, CSV and as a page, over a store of real traces."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Result, invoke
from opentelemetry.trace import get_current_span

from mlspan import tracing
from mlspan.cli import stats_page
from mlspan.cli.durations import Durations, interpolate_percentile
from mlspan.cli.outlines import SpanOutline, TraceOutline, is_simple
from mlspan.cli.reading import TraceReader
from mlspan.cli.sql_reader import SqlReader
from mlspan.cli.stats_figures import format_metric
from mlspan.cli.trace_totals import StatsRow, TraceStats

DAY = 86_400_000  # milliseconds
START = 1_767_225_600_000  # 2026-01-01, in milliseconds since 1970


@pytest.fixture(scope="module")
def store(_template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six traces, one a day: two users, tags, a workflow with two agents, a tool that fails, odd names."""
    pytest.importorskip("mlflow")
    file = tmp_path_factory.mktemp("stats") / "mlflow.db"
    shutil.copy(_template_store, file)
    tracing.configure(tracking_uri=f"sqlite:///{file}")
    for number in range(6):
        user = ["ada", "=1+1"][number % 2]
        with (
            tracing.session(f"s{number % 3}"),
            tracing.user(user),
            tracing.tags(team=["search", "<b>shop"][number % 2]),
            tracing.span("order", kind="workflow"),
        ):
            for agent in ("planner", "writer"):
                with tracing.span(agent, kind="agent"):
                    call_model("gpt-4o" if agent == "planner" else "gpt-4o-mini", 100 * (number + 1), 10)
                    if number == 5 and agent == "writer":
                        with pytest.raises(KeyError), tracing.span("look_up", kind="tool"):
                            raise KeyError("k")
    assert tracing.flush(60)
    tracing.shutdown()
    tracing.configure()
    with sqlite3.connect(file) as database:
        ids = [row[0] for row in database.execute("SELECT request_id FROM trace_info ORDER BY timestamp_ms")]
        for at, trace_id in enumerate(ids):
            changed = (START + at * DAY + 3_600_000, trace_id)
            database.execute("UPDATE trace_info SET timestamp_ms = ? WHERE request_id = ?", changed)
    return f"sqlite:///{file}"


def call_model(model: str, sent: int, received: int) -> None:
    with tracing.span(model, kind="chat"):
        named = {"gen_ai.request.model": model, "gen_ai.provider.name": "openai"}
        get_current_span().set_attributes(
            {**named, "gen_ai.usage.input_tokens": sent, "gen_ai.usage.output_tokens": received}
        )


@pytest.fixture
def stats(store: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLSPAN_TRACKING_URI", store)
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *arguments: invoke(["stats", "--since", "all", *arguments])


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("model", [("gpt-4o", 6, 2100, 60), ("gpt-4o-mini", 6, 2100, 60)]),
        ("agent", [("planner", 6, 2100, 60), ("writer", 6, 2100, 60)]),
        ("workflow", [("order", 6, 4200, 120)]),
        ("tool", [("look_up", 1, 0, 0)]),
        ("user", [("=1+1", 3, 2400, 60), ("ada", 3, 1800, 60)]),
        ("session", [("s2", 2, 1800, 40), ("s1", 2, 1400, 40), ("s0", 2, 1000, 40)]),
        ("tag", [("team=<b>shop", 3, 2400, 60), ("team=search", 3, 1800, 60)]),
        ("experiment", [("Default", 6, 4200, 120)]),
        ("run", [("-", 6, 4200, 120)]),
        ("error", [("KeyError", 1, 0, 0)]),
    ],
)
def test_by_each_group(stats: Any, group: str, expected: list[tuple[object, ...]]) -> None:
    """Calls and tokens; an agent's and a workflow's are those of all below them."""
    found = json.loads(stats("--by", group, "--json").stdout)
    rows = [(row["name"], row["calls"], row["input_tokens"], row["output_tokens"]) for row in found[f"{group}s"]]
    assert rows == expected
    assert [key for key in found if key.endswith("s") and key not in {"until_ms", "since_ms"}] == [
        "traces",
        f"{group}s",
    ]


def test_several_groups_and_intervals(stats: Any) -> None:
    """Several with commas; a day without traces would be there, too."""
    found = json.loads(stats("--by", "user, model", "--every", "1d", "--json").stdout)
    assert [len(found[name]) for name in ("users", "models", "intervals")] == [2, 2, 6]
    assert sum(row["input_tokens"] for row in found["intervals"]) == found["traces"]["input_tokens"] == 4200
    text = stats("--by", "model", "--every", "1d").stdout
    days = [line.split()[0] for line in text.splitlines() if line.startswith("2026-01-0")]
    assert days[:6] == [f"2026-01-0{day}" for day in range(1, 7)]


def test_csv(stats: Any) -> None:
    """A line for each row, with a header; a name that a spreadsheet would compute is text."""
    done = stats("--by", "user,error", "--every", "2d", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["group"] for row in rows] == ["all", *["begun"] * 3, "user", "user", "error"]
    assert [row["name"] for row in rows if row["group"] == "user"] == ["'=1+1", "ada"]
    assert rows[0]["calls"] == "6"
    assert float(rows[0]["cost_usd"]) == pytest.approx(sum(float(row["cost_usd"]) for row in rows[1:4]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--by foo", "--by takes model, agent, tool, workflow, user, session, tag, experiment, run or error"),
        ("--by ,", "--by takes model, agent,"),
        ("--by model,foo", "--by takes model, agent,"),
        ("--every 1", "--every takes 15m, 1h, 1d or 1w, not '1'"),
        ("--every 0h", "--every takes 15m, 1h, 1d or 1w, not '0h'"),
        ("--chart foo", "--chart takes cost, tokens, p95, calls or errors, not 'foo'"),
    ],
)
def test_what_is_not_taken(stats: Any, arguments: str, message: str) -> None:
    """One line that says what is."""
    done: Result = stats(*arguments.split())
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


def test_too_many_intervals(stats: Any) -> None:
    """They are refused before they fill the memory."""
    totals = TraceStats(("user",), 1000)
    for second in range(3000):
        totals.add_trace(make_outline(start_ms=second * 1_000_000))
    assert len(totals.list_intervals()) == 3000  # none is filled in
    assert len(totals.intervals) == 3000


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [420, 1400])
def test_a_page(stats: Any, browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    """One file that asks for nothing else, as wide as the window, with charts and tables; names are no markup."""
    path = tmp_path / "stats.html"
    groups = ["--by", "model,agent,tag,user,error", "--every", "1d"]
    done = stats(*groups, "--html", str(path))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"wrote {path}\n")
    page, asked = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator("h1").inner_text() == "6 traces of all time"
    assert page.locator("svg rect").count() == 6 * page.locator("svg").count() > 0
    headings = page.locator("h2").all_inner_texts()
    assert headings == ["By model", "By agent", "By tag", "By user", "By error"]
    assert "team=<b>shop" in page.locator("tbody th").all_inner_texts()
    cut = page.evaluate("[...document.querySelectorAll('td.cost')].some(one => one.scrollWidth > one.clientWidth + 1)")
    assert not cut
    assert page.locator("td.cost").first.is_visible()
    assert asked == [path.as_uri()]
    page.close()


def test_a_page_that_cannot_be_written(stats: Any, tmp_path: Path) -> None:
    """It is one line."""
    done = stats("--html", str(tmp_path))
    assert (done.exit_code, done.stderr) == (1, f"mlspan: cannot write {tmp_path}: Is a directory\n")


def test_what_was_read_is_shown_when_cut_off(stats: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the reading, and not the answer."""
    whole = SqlReader.iterate_outlines

    def cut_off(self: TraceReader, *arguments: Any, **options: Any) -> Iterator[TraceOutline]:
        for at, trace in enumerate(whole(self, *arguments, **options)):  # type: ignore[arg-type]
            if at == 4:
                raise KeyboardInterrupt
            yield trace

    monkeypatch.setattr(SqlReader, "iterate_outlines", cut_off)
    done = stats("--json")
    assert (done.exit_code, json.loads(done.stdout)["traces"]["calls"]) == (0, 4)
    assert done.stderr == "cut off: these are the newest 4 traces\n"


def test_percentiles_of_many() -> None:
    """Exact while they are few, within half a percent beyond, in a size that does not grow."""
    drawn = random.Random(7)
    values = [drawn.lognormvariate(5, 2) for _ in range(60_000)]
    found = Durations()
    for at, value in enumerate(values):
        found.add(value)
        if at in {0, 99, 9_999}:
            for percent in (0, 50, 99, 100):
                assert found.compute_percentile(percent) == interpolate_percentile(values[: at + 1], percent)
    for percent in (1, 50, 95, 99, 99.9):
        right = interpolate_percentile(values, percent)
        assert found.compute_percentile(percent) == pytest.approx(right, rel=0.006)
    assert len(found._exact) + len(found._counts) < 12_000
    zero = Durations()
    for _ in range(20_000):
        zero.add(0.0)
    assert zero.compute_percentile(50) == pytest.approx(0, abs=1e-5)


def make_outline(*spans: SpanOutline, start_ms: int = 0) -> TraceOutline:
    return TraceOutline("tr-1", False, start_ms, 5.0, 10, 2, 0.5, "0", None, None, None, {}, spans)


def test_the_order_of_rows_is_not_that_of_the_traces() -> None:
    """Floats that were added in another order differ in their last digits: rows as dear as each other stay by name."""
    costs = [0.1, 0.2, 0.3, 0.4, 0.7, 1.1]
    for number in range(20):
        stats = TraceStats(("user",))
        for user in "ab":
            for cost in random.Random(f"{user}{number}").sample(costs, len(costs)):
                stats.add_trace(make_outline()._replace(user=user, cost=cost))
        assert [row.name for row in stats.rows_by_group["user"]] == ["a", "b"]


def make_span(number: int, parent: int | None, kind: str, name: str, cost: float | None = None) -> SpanOutline:
    return SpanOutline(
        str(number), None if parent is None else str(parent), name, kind, False, 1.0, None, 3, 1, cost, None
    )


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([make_span(1, None, "AGENT", "a"), make_span(2, 1, "LLM", "m"), make_span(3, 1, "LLM", "m")], True),
        ([make_span(1, None, "AGENT", "a"), make_span(2, 1, "LLM", "m"), make_span(3, 1, "LLM", "n")], False),
        ([make_span(1, None, "AGENT", "a"), make_span(2, 1, "AGENT", "b")], False),
        ([make_span(1, None, "LLM", "m"), make_span(2, 1, "LLM", "m")], False),
        ([make_span(1, None, "LLM", "m"), make_span(2, None, "LLM", "m")], False),
        ([make_span(1, 9, "LLM", "m")], False),
        ([make_span(1, 1, "LLM", "m")], False),
        ([], False),
    ],
)
def test_which_traces_are_simple(spans: list[SpanOutline], expected: bool) -> None:
    """One root, one model, no agent within another: all that it has used is that model's and that agent's."""
    assert is_simple(spans) == expected


@pytest.mark.parametrize("groups", [("error",), ("model", "error"), ("agent", "error")])
@pytest.mark.parametrize("inner", ["CHAT_MODEL", "TOOL", "AGENT", "CHAIN"])
@pytest.mark.parametrize("outer", ["CHAT_MODEL", "AGENT", "CHAIN"])
def test_errors_count_where_they_began(groups: tuple[Any, ...], outer: str, inner: str) -> None:
    """Once, in a span of any type, whichever other groups are asked for."""
    above = make_span(1, None, outer, "above")._replace(failed=True, error="Outer")
    below = make_span(2, 1, inner, "below")._replace(failed=True, error="Inner")
    totals = TraceStats(groups)
    totals.add_trace(make_outline(above, below))
    assert [(row.name, row.calls, row.errors) for row in totals.rows_by_group["error"]] == [("Inner", 1, 1)]


def test_circles_and_lost_parents_end() -> None:
    """Spans above each other, as a broken program may write them, are added up once."""
    spans = [make_span(1, 2, "AGENT", "a", 0.1), make_span(2, 1, "AGENT", "b", 0.2), make_span(3, 9, "LLM", "m", 0.3)]
    totals = TraceStats()
    totals.add_trace(make_outline(*spans))
    costs = {row.name: row.cost for rows in totals.rows_by_group.values() for row in rows}
    assert costs == {"a": 0.1, "b": 0.2, "m": 0.3}


def test_a_page_of_many_rows() -> None:
    """The rest is a number; an interval without traces has no bar."""
    totals = TraceStats(("session",), 1000)
    for number in range(500):
        totals.add_trace(make_outline(start_ms=number * 2000)._replace(session=f"s{number}"))
    page = stats_page.render_stats_page(totals, "of all time", "cost")
    assert "and 300 more" in page
    assert page.count("<rect") % 200 == 0
    assert format_metric(StatsRow("x"), "p95") == "0.0 ms"
