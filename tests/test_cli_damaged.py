"""What is damaged or hostile in a store costs no more than itself: the commands show the rest; no terminal obeys it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command_line import invoke
from opentelemetry.trace import get_current_span

from mlspan import tracing
from mlspan.cli import running
from mlspan.cli.common import CommandFailure
from mlspan.cli.mlflow_reader import MlflowReader
from mlspan.cli.places import StoreLocation

pytest.importorskip("mlflow")
pytestmark = pytest.mark.usefixtures("tracing_off")

# What moves a terminal's cursor, or the direction of text.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
ODD = ("new\nline", "esc \x1b[31mred", "rtl \u202egnp", "c1 \x9b31m", "\r over", "[bold]b[/bold]", 'a,b;"c"\'', "%s {}")


@pytest.fixture(scope="module")
def whole(_template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a trace of three spans that fails, and a small one beside it."""
    file = tmp_path_factory.mktemp("damaged") / "mlflow.db"
    shutil.copy(_template_store, file)
    tracing.shutdown(10)
    tracing.configure(tracking_uri=f"sqlite:///{file}", spool_dir=file.parent / "spool")
    with tracing.span("beside", kind="step", input="fine"):
        pass
    with pytest.raises(ValueError, match="no"), tracing.span("broken", kind="agent", input={"q": "?"}):
        for model in ("gpt-4o", "gpt-4o-mini"):  # two: the totals do not tell whose they are
            with tracing.span("call", kind="chat"):
                get_current_span().set_attributes({"gen_ai.request.model": model, "gen_ai.usage.input_tokens": 5})
        raise ValueError("no")
    assert tracing.flush(60)
    tracing.shutdown(10)
    return file


SPANS = "UPDATE spans SET {} WHERE trace_id = :id"
TRACE = "UPDATE trace_info SET {} WHERE request_id = :id"
DAMAGES = {
    "no spans": "DELETE FROM spans WHERE trace_id = :id",
    "half a document": SPANS.format("content = substr(content, 1, 100)"),
    "an empty document": SPANS.format("content = ''"),
    "a list": SPANS.format("content = '[1, 2]'"),
    "null": SPANS.format("content = 'null'"),
    "no fields": SPANS.format("content = '{}'"),
    "attributes that are text": SPANS.format("content = json_set(content, '$.attributes', 'text')"),
    "no status": SPANS.format("content = json_set(content, '$.status', json('null'))"),
    "odd events": SPANS.format("content = json_set(content, '$.events', json('[1, null, {\"name\": 5}]'))"),
    "odd event fields": SPANS.format(
        'content = json_set(content, \'$.events\', json(\'[{"name": "exception", "attributes": 5}]\'))'
    ),
    "odd links": SPANS.format(
        "content = json_set(content, '$.links', json('[{\"trace_id\": 1, \"attributes\": 3}, 5]'))"
    ),
    "no end": SPANS.format("end_time_unix_nano = NULL"),
    "times before 1970": SPANS.format("start_time_unix_nano = -5, end_time_unix_nano = -10"),
    "times at the end of time": SPANS.format("start_time_unix_nano = 9223372036854775807"),
    "a negative time": TRACE.format("timestamp_ms = -5000, execution_time_ms = -3"),
    "a time far ahead": TRACE.format("timestamp_ms = 9999999999999999"),
    "a time far behind": TRACE.format("timestamp_ms = -9999999999999999"),
    "an unknown state": TRACE.format("status = 'WEIRD'"),
    "no previews": TRACE.format("request_preview = NULL, response_preview = NULL"),
    "negative totals": TRACE.format("input_tokens = -7, total_cost = -1.5"),
    "its own parent": SPANS.format("parent_span_id = span_id"),
    "no tags": "DELETE FROM trace_tags WHERE request_id = :id",
    "a large tag": "INSERT INTO trace_tags (key, value, request_id) SELECT 'large', hex(zeroblob(1000000)), :id",
    "half a usage": "INSERT OR REPLACE INTO trace_request_metadata (key, value, request_id) "
    "VALUES ('mlflow.trace.tokenUsage', '{\"inp', :id)",
}


@pytest.fixture
def damaged(request: pytest.FixtureRequest, whole: Path, tmp_path: Path) -> tuple[str, str]:
    """The address of the store with one damage, and the id of the trace that has it."""
    file = tmp_path / "mlflow.db"
    shutil.copy(whole, file)
    with closing(sqlite3.connect(file)) as database, database:
        found = database.execute("SELECT trace_id FROM spans WHERE name LIKE '%broken'")
        (trace_id,) = found.fetchone()
        assert database.execute(DAMAGES[request.param], {"id": trace_id}).rowcount > 0
    return f"sqlite:///{file}", trace_id


def run(uri: str, *arguments: object) -> str:
    found = invoke([*arguments, "--tracking-uri", uri])
    assert found.exit_code == 0, found.output
    assert not CONTROLS.search(found.output), CONTROLS.findall(found.output)
    return found.stdout


@pytest.mark.parametrize("damaged", DAMAGES, indirect=True)
def test_all_commands_read_it(damaged: tuple[str, str], tmp_path: Path) -> None:
    uri, trace_id = damaged
    assert "beside" in run(uri, "list")
    assert {one["trace_id"] for one in json.loads(run(uri, "list", "--json"))} > {trace_id}
    run(uri, "show", trace_id)
    told = json.loads(run(uri, "show", trace_id, "--json"))
    assert told["trace_id"] == trace_id
    run(uri, "show", trace_id, "--html", tmp_path / "page.html")
    for groups in ("model", "agent", "error", "tag", "session", "workflow"):
        run(uri, "stats", "--by", groups)
    run(uri, "stats", "--every", "1h", "--html", tmp_path / "stats.html")
    run(uri, "stats", "--csv")
    run(uri, "export", tmp_path / "spans.jsonl")
    assert "beside" in (tmp_path / "spans.jsonl").read_text()


@pytest.mark.parametrize("damaged", ["half a document", "null"], indirect=True)
def test_a_damaged_span_is_shown(damaged: tuple[str, str]) -> None:
    """By what its row says: its name, its place in the tree, its times."""
    uri, trace_id = damaged
    shown = run(uri, "show", trace_id)
    assert "invoke_agent broken" in shown
    assert shown.count("call") >= 2
    told = json.loads(run(uri, "show", trace_id, "--json"))
    assert [one["depth"] for one in told["spans"]] == [0, 1, 1]


@pytest.mark.parametrize("damaged", ["half a document", "a list", "null", "an unknown state"], indirect=True)
def test_what_mlflows_client_cannot_read_is_one_line(damaged: tuple[str, str]) -> None:
    """It reads the databases that we do not, and raises errors of any kind."""
    uri, trace_id = damaged
    reader = MlflowReader(StoreLocation(uri, None))
    with pytest.raises(CommandFailure) as refused:
        reader.fetch_trace(trace_id)
    assert str(refused.value).startswith(f"{uri}: ")
    with pytest.raises(CommandFailure):
        list(reader.iterate_traces(spans=True))


def test_spans_in_a_circle_are_shown(whole: Path, tmp_path: Path) -> None:
    """Each once, the first of them as a root."""
    file = tmp_path / "mlflow.db"
    shutil.copy(whole, file)
    with closing(sqlite3.connect(file)) as database, database:
        rows = database.execute("SELECT span_id, trace_id FROM spans WHERE name LIKE '%call%'").fetchall()
        (one, trace_id), (other, _) = rows
        for span, parent in ((one, other), (other, one)):
            database.execute("UPDATE spans SET parent_span_id = ? WHERE span_id = ?", (parent, span))
    told = json.loads(run(f"sqlite:///{file}", "show", trace_id, "--json"))
    assert sorted(span["span_id"] for span in told["spans"] if span["name"].endswith("call")) == sorted({one, other})


@pytest.fixture
def uri(_template_store: Path, tmp_path: Path) -> str:
    """The address of an empty store, to which traces go."""
    shutil.copy(_template_store, tmp_path / "mlflow.db")
    tracing.configure(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", spool_dir=tmp_path / "spool")
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_odd_names_move_no_terminal(uri: str) -> None:
    """In names of spans, sessions, users, tags and their keys, models and errors."""
    for text in ODD:
        with tracing.session(text), tracing.user(text), tracing.tags(**{f"key {text}": text}):
            with pytest.raises(ValueError), tracing.span(text, kind="agent", input=text):
                with tracing.span(text, kind="chat") as call:
                    get_current_span().set_attribute("gen_ai.request.model", text)
                    call.output = text
                raise ValueError(text)
    assert tracing.flush(60)
    tracing.shutdown(10)
    ids = [one["trace_id"] for one in json.loads(invoke(["list", "--json", "--tracking-uri", uri]).stdout)]
    assert len(ids) == len(ODD)
    for trace_id in ids:
        run(uri, "show", trace_id)
    run(uri, "list")
    run(uri, "stats", "--by", "error")
    for groups in ("model", "agent", "tag", "session", "user"):
        assert len(run(uri, "stats", "--by", groups).splitlines()) >= len(ODD)


@pytest.mark.parametrize("named", ["²", "٣", "9" * 20, "-1", "1.0"])
def test_an_odd_experiment_is_not_there(named: str, uri: str) -> None:
    """Not all that is called a digit is one, and not all numbers fit into a database."""
    found = invoke(["list", "--experiment", named, "--tracking-uri", uri])
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.startswith(f"mlspan: there is no experiment {named!r} in {uri}")


@pytest.mark.parametrize("named", ["²", "٣", "9" * 20])
def test_an_odd_experiment_is_a_name_everywhere(named: str, uri: str) -> None:
    """For the doctor, for a program that is run, and in links."""
    told = invoke(["doctor", "--no-write", "--tracking-uri", uri, "--experiment", named]).stdout
    assert f"{named!r} is new: the first trace makes it" in told
    assert running._build_environment(None, named)["MLFLOW_EXPERIMENT_NAME"] == named


def test_a_tag_hides_no_fact(uri: str) -> None:
    """A tag may be called like what ``show`` says of a trace by itself."""
    named = dict.fromkeys(("took", "tokens", "cost", "spans", "at", "user", "session", "trace", "link", "run"), "free")
    with tracing.session("s-1"), tracing.user("ada"), tracing.tags(**named), tracing.span("step"):
        pass
    assert tracing.flush(60)
    tracing.shutdown(10)
    shown = run(uri, "show", "last")
    assert "1 span" in shown
    assert "session s-1" in shown
    assert "user ada" in shown
    assert shown.count("free") == len(named)
    assert "free spans" not in shown
