"""``--filter``: the language of MLflow's search, by plain SQL, with MLflow's results; what is wrong is explained."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from otlp_lines import lines, said, span
from packaging import version
from servers.postgres import postgres, require_postgres

from mlspan.cli.arguments import UsageError
from mlspan.cli.filters import parse_filter
from mlspan.cli.mlflow_reader import MlflowReader
from mlspan.cli.opening import open_reader
from mlspan.cli.places import StoreLocation
from mlspan.cli.reading import TraceFilter
from mlspan.cli.sql_reader import SqlReader

mlflow = pytest.importorskip("mlflow")
sqlalchemy = pytest.importorskip("sqlalchemy")

TEAMS = ("ops", "OPS", "web", "a%b", "it's", 'say "hi"', "ü_x")
TRACES = 24
IS_OLDER = version.parse(mlflow.__version__) < version.parse("3.17")


def _make_spans() -> list[dict[str, Any]]:
    made = []
    for number in range(TRACES):
        trace, at = f"{number + 16:x}", number * 1000
        kinds = (("agent", "invoke_agent"), ("call", "chat"), ("Call", "execute_tool"))
        for place, (name, operation) in enumerate(kinds[: 1 + number % 3]):
            failed = {"error": "ValueError: no"} if (number + place) % 5 == 0 else {}
            made.append(
                span(
                    *(trace, number * 10 + place + 1, f"{name} {number % 4}", number * 10 + 1 if place else 0),
                    at=at + place,
                    ms=10 * (number + 1) - 2 * place,
                    gen_ai__operation__name=operation,
                    gen_ai__request__model=f"m{number % 2}",
                    gen_ai__input__messages=said("user", f"question {number}"),
                    **failed,
                )
            )
    return made


@pytest.fixture(scope="module", params=["sqlite", "postgresql"] if os.environ.get("MLSPAN_WIDE") else ["sqlite"])
def store(request: pytest.FixtureRequest, _template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A database with traces that differ in all that a filter can name."""
    folder = tmp_path_factory.mktemp("filter")
    if request.param == "sqlite":
        shutil.copy(_template_store, folder / "mlflow.db")
        _fill_store(f"sqlite:///{folder}/mlflow.db", folder)
        yield f"sqlite:///{folder}/mlflow.db"
        return
    require_postgres()
    with postgres() as (address, _):
        _fill_store(f"{address}/postgres", folder)
        yield f"{address}/postgres"


def _fill_store(uri: str, folder: Path) -> None:
    """Import the spans, and set what an import does not: tags, users, runs, sessions, open traces."""
    (folder / "spans.jsonl").write_text(lines(*_make_spans()))
    assert invoke(["import", folder / "spans.jsonl", "--tracking-uri", uri]).exit_code == 0
    client = mlflow.MlflowClient(uri)
    run = client.create_run("0", run_name="nightly").info.run_id
    found = client.search_traces(locations=["0"], max_results=100, include_spans=False)
    assert len(found) == TRACES
    client.link_traces_to_run([one.info.trace_id for one in found[:3]], run)
    engine = sqlalchemy.create_engine(uri)
    has_column = "session_id" in {one["name"] for one in sqlalchemy.inspect(engine).get_columns("trace_info")}
    with engine.begin() as database:
        for number, one in enumerate(found):
            trace_id = one.info.trace_id
            if number % 4:
                _set_pair(database, "trace_tags", trace_id, "team", TEAMS[number % len(TEAMS)])
            _set_pair(database, "trace_request_metadata", trace_id, "mlflow.trace.user", f"u{number % 3}")
            if number % 5 == 0:
                _set_pair(database, "trace_request_metadata", trace_id, "mlflow.sourceRun", run)
            session = f"s{number % 3}" if number % 2 else None
            if has_column:
                _execute(
                    database, "UPDATE trace_info SET session_id = :session WHERE request_id = :id", session, trace_id
                )
            elif session is not None:
                _set_pair(database, "trace_request_metadata", trace_id, "mlflow.trace.session", session)
            if number % 7 == 0:
                gone = "UPDATE trace_info SET execution_time_ms = NULL, status = :status WHERE request_id = :id"
                _execute(database, gone, "IN_PROGRESS", trace_id)
    engine.dispose()


def _set_pair(database: Any, table: str, trace_id: str, key: str, value: str) -> None:
    _execute(database, f"DELETE FROM {table} WHERE key = :key AND request_id = :id", key, trace_id)
    inserted = f"INSERT INTO {table} (key, value, request_id) VALUES (:key, :value, :id)"
    _execute(database, inserted, key, value, trace_id)


def _execute(database: Any, statement: str, *values: object) -> None:
    """Execute a statement with its parameters in the order in which it names them."""
    names = re.findall(r":(\w+)", statement)
    database.execute(sqlalchemy.text(statement), dict(zip(names, values, strict=True)))


def _quote(text: str) -> str:
    return f'"{text}"' if "'" in text else f"'{text}'"


def _make_condition(draw: random.Random, known: Any) -> str:
    """Return a condition on any field, with any comparison that MLflow allows for it; *known* is a trace's info."""
    prefix = draw.choice(("", "", "attributes.", "attribute.", "trace."))
    texts = {
        f"{prefix}status": ["OK", "ERROR", "IN_PROGRESS", "ok", "%R%"],
        f"{prefix}request_id": [known.trace_id, known.trace_id.upper(), "tr-1%", "%0"],
        f"{prefix}name": ["invoke_agent agent 1", "agent 1", "%AGENT%", "%agent _", "", known.tags["mlflow.traceName"]],
        f"{draw.choice(('tag', 'tags'))}.team": [*TEAMS, "o%", '%"%', "a%b", "Ü_x", "none"],
        f"{draw.choice(('tag', 'tags'))}.`mlflow.traceName`": ["%1", "agent 1"],
        "tag.nobody": ["x"],
        "metadata.`mlflow.trace.user`": ["u1", "u%", "U1"],
        "request_metadata.mlflow.trace.session": ["s1", "s%", "S_"],
        f"{prefix}client_request_id": ["x", "%"],
        "span.name": ["chat call 1", "call 1", "%all%", "%Call%", "agent 2"],
        "span.type": ["TOOL", "CHAT_MODEL", "tool", "AGENT", "%O%"],
        "span.status": ["ERROR", "OK", "UNSET"],
    }
    if draw.random() < 0.3:
        field = draw.choice(
            ("timestamp", "timestamp_ms", "execution_time_ms", "execution_time", "end_time_ms", "end_time")
        )
        exact = known.request_time if field.startswith("t") else known.execution_duration or 50
        exact += known.request_time if field.startswith("end") else 0
        value = exact + draw.choice((-1, 0, 0, 1))
        return f"{field} {draw.choice(('>', '>=', '<', '<=', '=', '!='))} {value}"
    if draw.random() < 0.1:
        run = known.request_metadata.get("mlflow.sourceRun", "none")
        return f"{prefix}run_id {draw.choice(('=', '!=', 'LIKE'))} '{run}'"
    field = draw.choice(list(texts))
    wide = field.startswith("span.") or field.endswith(("status", "request_id"))
    comparisons = ["=", "!=", "LIKE", "ILIKE", *(("IN", "NOT IN") if wide else ("IS NULL", "IS NOT NULL"))]
    comparison = draw.choice(comparisons)
    if "NULL" in comparison:
        return f"{field} {comparison}"
    if "IN" in comparison.split():
        return (
            f"{field} {comparison} ({', '.join(_quote(draw.choice(texts[field])) for _ in range(draw.randint(1, 3)))})"
        )
    return f"{field} {comparison} {_quote(draw.choice(texts[field]))}"


class OlderLanguage(Exception):  # noqa: N818  # no error of the test
    """This MLflow is older than a condition, which our parser knows and its own does not."""


def find_ids(uri: str, text: str) -> tuple[list[str], list[str], bool]:
    """Return the ids that the quick reader finds, those that MLflow finds, and whether the first was by SQL alone."""
    reader = open_reader(StoreLocation(uri, None))
    assert isinstance(reader, SqlReader)
    try:
        right = mlflow.MlflowClient(uri).search_traces(
            locations=["0"],
            filter_string=text,
            max_results=100,
            include_spans=False,
            order_by=["timestamp_ms DESC", "request_id DESC"],
        )
    except mlflow.exceptions.MlflowException as refused:
        if IS_OLDER and str(refused).startswith(("Invalid clause(s)", "Invalid attribute key", "Invalid comparator")):
            raise OlderLanguage(str(refused)) from refused
        raise
    where = TraceFilter(conditions=parse_filter(text))
    found = [one.id for one in reader.iterate_traces(where)]
    return found, [one.info.trace_id for one in right], "_through_mlflow" not in vars(reader)


def find_ids_or_skip(uri: str, text: str) -> tuple[list[str], list[str], bool]:
    try:
        return find_ids(uri, text)
    except OlderLanguage as older:
        pytest.skip(f"MLflow {mlflow.__version__}: {older}")


def test_generated_filters_find_what_mlflow_finds(store: str) -> None:
    """100 filters of one to four conditions, all by SQL alone; both many and none are found often enough to tell."""
    draw = random.Random(7)
    infos = mlflow.MlflowClient(store).search_traces(locations=["0"], max_results=100, include_spans=False)
    sizes = []
    for _ in range(100):
        parts = [_make_condition(draw, draw.choice(infos).info) for _ in range(draw.choice((1, 1, 2, 2, 3, 4)))]
        if sum("run_id =" in one for one in parts) > 1:
            continue  # MLflow goes by the last of them alone
        text = draw.choice((" AND ", "  AND\n")).join(parts)
        try:
            found, right, is_quick = find_ids(store, text)
        except OlderLanguage:
            continue
        assert (found, is_quick) == (right, True), text
        sizes.append(len(found))
    assert sum(0 < size < TRACES for size in sizes) > 25


@pytest.mark.parametrize(
    "text",
    [
        "name RLIKE 'agent [12]$'",
        "span.attributes.`gen_ai.request.model` LIKE '%m1%'",
        "trace.text LIKE '%question 3%'",
        "span.content ILIKE '%QUESTION 3%'",
        "tag.name = 'invoke_agent agent 1'",
        "metadata.`mlflow.trace.tokenUsage` IS NULL",
        "status = 'OK' AND feedback.good IS NULL",
        "expectation.right = 'x'",
        "prompt = 'p/1'",
    ],
)
def test_what_sql_does_not_know_is_asked_of_mlflow(text: str, store: str) -> None:
    """With the same language and the same results."""
    found, right, is_quick = find_ids_or_skip(store, text)
    assert (found, is_quick) == (right, False)


def test_the_parser_is_no_stricter(store: str) -> None:
    """Words of the language are taken in any case, as MLflow's parser does, and spaces may be missing."""
    found, right, _ = find_ids(store, "timestamp_ms>5 and tag.team ilike'%O%'   And status in('OK' ,'ERROR')")
    assert found == right != []
    reader = MlflowReader(StoreLocation(store, None))
    by_text = TraceFilter(conditions=parse_filter("text LIKE '%question 3%'"))  # which MLflow's parser refuses
    assert [one.request for one in reader.iterate_traces(by_text)] == ["question 3"]
    assert [one.id for one in reader.iterate_traces(TraceFilter(conditions=parse_filter("status in ('OK')")))]


ODD = (
    "execution_time_ms > 0.5",
    "timestamp_ms > -1000",
    "name LIKE 'a\\_ent'",
    "name ILIKE '%AGENT\\%%'",
    "tag.team = 'it''s'",
    "name = '?'",
    "tag.`%s` IS NULL AND name LIKE '%%%s?%%'",
    "request_id NOT IN ('?', '%s', '')",
)


@pytest.mark.parametrize("text", ODD)
def test_odd_values_find_what_mlflow_finds(text: str, store: str) -> None:
    """Fractions, numbers below zero, and texts that mean something in SQL or to a driver."""
    found, right, is_quick = find_ids_or_skip(store, text)
    assert (found, is_quick) == (right, True)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a_number_beyond_64_bits(number: int, store: str) -> None:
    """A driver refuses it as an integer, and MLflow fails."""
    reader = open_reader(StoreLocation(store, None))
    found = {
        comparison: len(
            list(reader.iterate_traces(TraceFilter(conditions=parse_filter(f"timestamp_ms {comparison} {number}"))))
        )
        for comparison in ("<", ">", "=", "!=")
    }
    assert found == {"<": TRACES * (number > 0), ">": TRACES * (number < 0), "=": 0, "!=": TRACES}


WRONG = {
    "": "a field is expected, not nothing",
    "status": "status takes =, !=, IN, NOT IN, LIKE, ILIKE or RLIKE, not nothing",
    "status = ERROR": "status = takes a text in quotes, not 'ERROR'",
    "status == 'OK'": "status takes =, !=, IN, NOT IN, LIKE, ILIKE or RLIKE, not \"== 'OK'\"",
    "status > 'OK'": "status takes =, !=, IN, NOT IN, LIKE, ILIKE or RLIKE, not \"> 'OK'\"",
    "status = 'OK' OR name = 'x'": "after status = 'OK' only AND is possible, not \"OR name = 'x'\"",
    "status = 'OK' AND": "a field is expected, not nothing",
    "colour = 'red'": "there is no field colour",
    "session = 'c-1'": "there is no field session (--session has it, and so has metadata.`mlflow.trace.session`)",
    "user = 'ada'": "there is no field user (metadata.`mlflow.trace.user` has it)",
    "span.colour = 'red'": "there is no field span.colour",
    "thing.x = 'red'": "there is no field thing.x",
    "tag.my-key = 'x'": "tag.my takes =, !=, LIKE, ILIKE, RLIKE, IS NULL or IS NOT NULL, not \"-key = 'x'\"; "
    "put a key with other characters than letters, digits, _ and . into `backticks`",
    "tag.x IN ('a')": "tag.x takes =, !=, LIKE, ILIKE, RLIKE, IS NULL or IS NOT NULL, not \"IN ('a')\"",
    "status IN 'OK'": "status IN takes texts in quotes and parentheses, not \"'OK'\"",
    "status IN ()": "status IN takes texts in quotes and parentheses, not '()'",
    "execution_time_ms > 'long'": "execution_time_ms > takes a number, not \"'long'\"",
    "execution_time_ms > 5s": "execution_time_ms > takes a number, not '5s'",
    "timestamp_ms LIKE 5": "timestamp_ms takes =, !=, >, >=, < or <=, not 'LIKE 5'",
    "tag.x = 'open": 'tag.x = takes a text in quotes, not "\'open"',
    "name = 'a'; drop table spans": "after name = 'a' only AND is possible, not '; drop table spans'",
    "🙂 = 'x'": "a field is expected, not \"🙂 = 'x'\"",
    "(status = 'OK')": "a field is expected, not \"(status = 'OK')\"",
    "1 = 1": "a field is expected, not '1 = 1'",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_filter_is_explained(text: str, store: str) -> None:
    """In one line of our own, which says what is allowed in its place, with exit code 2."""
    result = invoke(["list", "--filter", text, "--tracking-uri", store])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = [one for one in result.stderr.splitlines() if "--filter" in one]
    lacks_field = WRONG[text].startswith(("there is no field", "a field is expected"))
    fields = "; it takes conditions joined by AND, on name, status, " if lacks_field else " (see: mlspan list --help)"
    assert f"--filter: {WRONG[text]}{fields}" in line


def test_garbage_is_refused_or_parsed() -> None:
    """No text makes the parser raise another error, or take long."""
    draw = random.Random(3)
    parts = ("tag.x", "=", "'a'", '"', "'", "(", ")", ",", " AND ", "5", "LIKE", "`", ".", "\x00", "\\'", "name", "IN")
    for _ in range(3000):
        text = "".join(draw.choice(parts) + draw.choice(("", " ")) for _ in range(draw.randint(1, 12)))
        with suppress(UsageError):
            parse_filter(text)
    (odd,) = parse_filter("tag.x = '" + "\\'" * 50_000)
    assert len(str(odd.value)) == 99_999
    with pytest.raises(UsageError):
        parse_filter("status IN (" + "'a'," * 50_000)


def test_every_command_takes_it(store: str, tmp_path: Path) -> None:
    """list, show, stats and export, together with other options; what does not match says so."""
    place = ["--tracking-uri", store]
    text = "tag.team = 'web' AND execution_time_ms > 20"
    listed = json.loads(invoke(["list", "--filter", text, "--json", *place]).stdout)
    assert listed
    assert {one["tags"]["team"] for one in listed} == {"web"}
    shown = json.loads(invoke(["show", "--filter", text, "--json", *place]).stdout)
    assert shown["trace_id"] == listed[0]["trace_id"]
    stats = json.loads(invoke(["stats", "--filter", text, "--since", "all", "--json", *place]).stdout)
    assert stats["traces"]["calls"] == len(listed)
    by_client = json.loads(
        invoke(["stats", "--filter", f"{text} AND name RLIKE '.'", "--since", "all", "--json", *place]).stdout
    )
    assert by_client == {**stats, "until_ms": by_client["until_ms"]}
    invoke(["export", "--filter", text, *place, str(tmp_path / "some.jsonl")])
    exported = {
        one["traceId"]
        for line in (tmp_path / "some.jsonl").read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for one in scope["spans"]
    }
    assert exported == {one["trace_id"].removeprefix("tr-") for one in listed}
    failed = invoke(["list", "--filter", text, "--status", "error", "--json", *place])
    assert all(one["status"] == "ERROR" for one in json.loads(failed.stdout))
    assert invoke(["list", "--filter", "tag.team = 'nobody'", *place]).stderr == "no traces match\n"
    assert "no trace matches in" in invoke(["show", "--filter", "tag.team = 'nobody'", *place]).stderr
    assert invoke(["show", "3fa9", "--filter", text, *place]).exit_code == 2
    assert "--filter: status = takes a text in quotes" in invoke(["tail", "--filter", "status = OK", *place]).stderr
