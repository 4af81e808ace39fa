"""Traces of a tracking server are read by its REST API: as MLflow's client tells them, and without MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from command_line import invoke
from opentelemetry.trace import get_current_span
from servers.process import free_port
from servers.scripted import Scripted
from test_cli_readers import FILTERS, describe

from mlspan import tracing
from mlspan.cli import model, rest_reader
from mlspan.cli.common import CommandFailure
from mlspan.cli.filters import parse_filter
from mlspan.cli.mlflow_reader import MlflowReader
from mlspan.cli.opening import open_reader
from mlspan.cli.places import StoreLocation
from mlspan.cli.reading import EVERYTHING, TraceFilter
from mlspan.cli.rest_reader import RestReader
from mlspan.cli.rest_traces import make_info, make_spans

mlflow = pytest.importorskip("mlflow")

WITHOUT_MLFLOW = "import sys; sys.modules['mlflow'] = None; from mlspan.cli import main; sys.argv[0] = 'mlspan'; main()"
EXPERIMENT = "read by REST"


@pytest.fixture(scope="module")
def server(mlflow_server: str) -> str:
    """A server with traces of every kind in one experiment: a run, a link, sessions, tags, errors, one that waits."""
    client = mlflow.MlflowClient(mlflow_server)
    experiment = client.create_experiment(EXPERIMENT)
    run = client.create_run(experiment, run_name="nightly")
    for run_id in (None, run.info.run_id):
        tracing.configure(tracking_uri=mlflow_server, experiment=EXPERIMENT, run=run_id)
        for number in range(4):
            _record_trace(number)
        assert tracing.flush(60)
        tracing.shutdown()
    tracing.configure()
    oldest = client.search_traces(locations=[experiment], order_by=["timestamp_ms ASC"], max_results=1)[0]
    client.link_traces_to_run([oldest.info.trace_id], run.info.run_id)
    waits = client.search_traces(locations=[experiment], filter_string="name LIKE '%agent 2'", max_results=1)[0]
    client.set_trace_tag(waits.info.trace_id, "mlspan.waiting", "true")
    return mlflow_server


def _record_trace(number: int) -> None:
    with tracing.session(f"s{number % 2}"), tracing.user("ada"), tracing.tags(team=f"té{number}"):
        try:
            with tracing.span(f"agent {number}", kind="agent", input={"q": "Is\nit \x1b[31msunny?"}) as outer:
                with tracing.span("call", kind="chat"):
                    used = {"gen_ai.usage.input_tokens": 10 + number, "gen_ai.usage.output_tokens": number}
                    get_current_span().set_attributes({**used, "gen_ai.request.model": "gpt-4o-mini"})
                if number == 3:
                    raise ValueError("no such thing")
                outer.output = [1, None, {"a": float("inf")}]
        except ValueError:
            pass


def open_both(uri: str, experiment: str | None = EXPERIMENT) -> tuple[RestReader, MlflowReader]:
    place = StoreLocation(uri, experiment)
    quick = open_reader(place)
    assert isinstance(quick, RestReader)
    return quick, MlflowReader(place)


@pytest.mark.parametrize(
    ("which", "spans"),
    [*((name, True) for name in (*FILTERS, "waiting", "a run", "a filter")), ("everything", False), ("waiting", False)],
)
def test_both_tell_the_same(which: str, spans: bool, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fact of every trace, in the same order, from several pages."""
    monkeypatch.setattr(rest_reader, "TRACES_PER_PAGE", 3)
    monkeypatch.setattr(rest_reader, "FULL_TRACES_PER_PAGE", 3)
    quick, slow = open_both(server)
    assert quick.experiments == slow.experiments
    more = {
        "waiting": TraceFilter(status="WAITING"),
        "a run": TraceFilter(run_id=slow.find_run_id("nightly")),
        "a filter": TraceFilter(conditions=parse_filter("tag.team = 'té1' AND name LIKE '%agent%'")),
    }
    where = {**FILTERS, **more}[which]
    told, right = ([describe(one) for one in reader.iterate_traces(where, spans=spans)] for reader in (quick, slow))
    assert told == right
    assert len(right) > 0 or which in {"no such session", "until", "an id", "open"}
    assert [one.id for one in quick.iterate_traces(where, limit=2)] == [one["trace_id"] for one in right[:2]]


def test_one_trace_and_its_run(server: str) -> None:
    """A trace by its id, the run's name and id, and what is not there."""
    quick, slow = open_both(server)
    newest = next(quick.iterate_traces())
    assert describe(quick.find_trace(newest.id[:12])) == describe(slow.fetch_trace(newest.id))
    run_id = quick.find_run_id("nightly")
    assert run_id == slow.find_run_id("nightly")
    assert (quick.find_run_name(run_id), quick.find_run_name("0" * 32)) == ("nightly", "0" * 32)
    with pytest.raises(CommandFailure, match="there is no run 'never'"):
        quick.find_run_id("never")
    with pytest.raises(CommandFailure, match="there is no trace tr-0000"):
        quick.find_trace("0" * 32)
    for unknown in ("never", "987654321"):
        with pytest.raises(CommandFailure, match=f"there is no experiment '{unknown}' in http.*; there are: "):
            open_reader(StoreLocation(server, unknown))
    by_id = next(iter(quick.experiments))
    assert open_reader(StoreLocation(server, by_id)).experiments == {by_id: EXPERIMENT}
    assert open_both(server, None)[0].experiments == open_both(server, None)[1].experiments


def test_the_commands_need_no_mlflow(server: str) -> None:
    """list, show, stats and export of a server, in a process that cannot import it; all as with it."""
    env = {**os.environ, "MLSPAN_TRACKING_URI": server, "MLSPAN_EXPERIMENT": EXPERIMENT, "MLSPAN_STRICT": "1"}
    found = {}
    for command in (["list", "--json"], ["show", "--json"], ["stats", "--since", "all", "--json"], ["export"]):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", WITHOUT_MLFLOW, *command],
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        found[command[0]] = done.stdout
    _, slow = open_both(server)
    assert json.loads(found["list"]) == [model.trace_to_json(one) for one in slow.iterate_traces()]
    assert len(json.loads(found["show"])["spans"]) == 2
    stats = json.loads(found["stats"])
    assert (stats["traces"]["calls"], stats["traces"]["errors"]) == (8, 2)
    assert len(found["export"].splitlines()) == 8


# Servers that are not as they should be.


@pytest.fixture
def fake() -> Iterator[Scripted]:
    """A server of its own that answers what the test says."""
    server = Scripted()
    yield server
    server.stop()


def read(server: Scripted) -> str:
    """Return the line that a person reads."""
    result = invoke(["list", "--tracking-uri", server.base_url.removesuffix("/v1")])
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    return line


PAGE = b"<!doctype html><title>Sign in</title>"
FOREIGN = "another server is behind this address, or a sign-in page"
REFUSED = "answers 403: this user may not read there (Permission denied)"
NO_PATH = "no tracking server of MLflow 3 is at this address"
LOCATION = {"Location": "https://u:p@x.test/a?t=1"}
ANSWERS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "who are you": (
        {"message": "no"},
        {"status": 401},
        "answers 401: check MLFLOW_TRACKING_USERNAME and _PASSWORD, or",
    ),
    "you may not": (b"Permission denied", {"status": 403}, REFUSED),
    "another name": (b"Invalid Host header", {"status": 403}, "its --allowed-hosts have to name it"),
    "no such path": (b"not here", {"status": 404}, NO_PATH),
    "elsewhere": (b"", {"status": 302, "headers": LOCATION}, "points to https://x.test/a: name that address"),
    "a sign-in page": (PAGE, {"headers": {"Content-Type": "text/html"}}, FOREIGN),
    "a page as JSON": (PAGE, {}, FOREIGN),
    "a list": ([1], {}, FOREIGN),
    "nothing": (b"", {}, FOREIGN),
    "an object of another kind": ({"experiments": [{"a": 1}]}, {}, FOREIGN),
    "an object of another shape": ({"experiments": 5}, {}, FOREIGN),
    "a fault": (b"Internal\x1b[31m error\n" * 100, {"status": 500}, "answers 500: Internal\\x1b[31m error Internal"),
}


@pytest.mark.parametrize("which", ANSWERS)
def test_what_is_wrong_is_one_line(which: str, fake: Scripted) -> None:
    """Our own, with what to do, no traceback and no secret."""
    body, how, line = ANSWERS[which]
    fake.reply(body, **how)
    said = read(fake)
    assert line in said
    assert "u:p@" not in said


def test_a_server_that_is_away() -> None:
    result = invoke(["list", "--tracking-uri", f"http://127.0.0.1:{free_port()}"])
    assert result.exit_code == 1
    assert result.stderr.startswith("mlspan: cannot reach the tracking server http://127.0.0.1")
    assert result.stderr.endswith(": is it running?\n")


def test_credentials_are_those_of_mlflow(fake: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its variables; the address that is shown has none."""
    fake.reply({"message": "no"}, status=401)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    assert "t0ken" not in read(fake)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert "secret" not in read(fake)
    assert [headers["authorization"] for headers, _ in fake.requests] == ["Bearer t0ken", "Basic YWRhOnNlY3JldA=="]


def test_pages_end(fake: Scripted) -> None:
    """A server that gives one page for ever is asked once more, and each of its traces is told once."""
    fake.reply({"experiments": [{"experiment_id": "1", "name": "a"}]})
    one = {"trace_id": "tr-1", "request_time": "2026-01-01T00:00:00Z", "state": "OK"}
    fake.reply({"traces": [one, one], "next_page_token": "same"})
    reader = RestReader(StoreLocation(fake.base_url.removesuffix("/v1"), None))
    assert [trace.id for trace in reader.iterate_traces(EVERYTHING)] == ["tr-1"]
    assert len(fake.requests) == 3
    assert [body.get("page_token") for _, body in fake.requests] == [None, None, "same"]


@pytest.mark.parametrize(
    ("time", "duration", "right"),
    [
        ("2026-01-01T00:00:00Z", None, (1_767_225_600_000, None)),
        ("2026-01-01T00:00:00.123Z", "0s", (1_767_225_600_123, 0)),
        ("2026-01-01T00:00:00.123999999Z", "1.0019s", (1_767_225_600_123, 1001)),
        ("1969-12-31T23:59:59.5Z", "0.29s", (-500, 290)),
        ("garbage", "90000s", (0, 90_000_000)),
    ],
)
def test_times(time: str, duration: str | None, right: tuple[int, int | None]) -> None:
    """Whole milliseconds, as MLflow has them."""
    info = make_info({"trace_id": "tr-1", "request_time": time, "execution_duration": duration})
    assert (info.request_time, info.execution_duration) == right


def test_spans_of_mlflow_2() -> None:
    """They are in files that a server of today still has."""
    older = {
        "name": "call", "context": {"span_id": "0x1f", "trace_id": "0x2"}, "parent_id": "0x1e", "start_time": 5,
        "end_time": None, "status_code": "ERROR", "status_message": "no", "attributes": {"mlflow.spanType": '"TOOL"'},
        "events": [],
    }  # fmt: skip
    (span,) = make_spans([older])
    assert (span.span_id, span.parent_id, span.span_type, span.start_time_ns) == ("1f", "1e", "TOOL", 5)
    assert (span.status.status_code, span.status.description) == ("ERROR", "no")
