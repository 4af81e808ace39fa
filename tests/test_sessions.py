"""Sessions of several levels, as MLflow 3.18 has them: a JSON array of texts, the outermost first, of any length."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import get_current_span
from packaging import version
from test_mlflow_translation import stored

from mlspan import tracing
from mlspan.testing import Spans
from mlspan.tracing.operations import sessions
from mlspan.tracing.operations.call_context import TraceOrigin

SESSION = "mlflow.trace.session"
PATH = '["trip-2","ep-2"]'


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["trip-2", "ep-2"], PATH),
        (("trip-2", "ep-2"), PATH),
        (PATH, PATH),
        (["größe", 'say "hi"', 7], '["größe","say \\"hi\\"","7"]'),
        (["\ud800"], '["?"]'),
        ([], None),
        ("chat-42", "chat-42"),
        (7, "7"),
    ],
)
def test_levels_are_a_json_array(given: Any, kept: str | None, spans: Spans) -> None:
    """As MLflow's own functions write them; any other id is text."""
    with tracing.session(given), tracing.span("step"):
        pass
    (span,) = spans.all
    assert (span.attributes or {}).get("session.id") == kept


LONG = ["trip-" + "x" * 400, "ep-2", "turn-" + '"' * 300]


@pytest.mark.parametrize("name", ["session.id", "gen_ai.conversation.id"])
@pytest.mark.parametrize("given", [json.dumps(LONG), LONG, tuple(LONG)], ids=["JSON", "list", "tuple"])
def test_a_long_path_keeps_its_levels(given: Any, name: str) -> None:
    """The longest are cut, so that what remains is an array for the store, on the trace and on its spans."""
    trace = stored({"mlspan.kind": "step", name: given})
    for text in (trace.summary.metadata[SESSION], trace.spans[0].attributes[name]):  # type: ignore[index]
        assert len(text) <= 250
        first, second, third = json.loads(text)
        assert second == "ep-2"
        assert first.startswith("trip-xxx")
        assert third.startswith('turn-"""')


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("s" * 400, "s" * 249 + "…"),
        ("[" * 400, "[" * 249 + "…"),
        (json.dumps([1] * 200), json.dumps([1] * 200)[:249] + "…"),
        (json.dumps({"a": "s" * 400}), json.dumps({"a": "s" * 400})[:249] + "…"),
        (PATH, PATH),
    ],
)
def test_other_text_is_cut_as_text(given: str, kept: str) -> None:
    assert stored({"session.id": given}).summary.metadata[SESSION] == kept
    assert stored({}, origin=TraceOrigin(session=given)).summary.metadata[SESSION] == kept


def test_more_levels_than_fit() -> None:
    """The outermost stay."""
    given = [f"level {number}" for number in range(200)]
    kept = json.loads(stored({"session.id": json.dumps(given)}).summary.metadata[SESSION])
    assert len(kept) > 60
    assert kept[0].startswith("l")


@pytest.mark.parametrize("level", ["", "level", '"' * 300])
def test_cutting_is_bounded_by_what_is_kept(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of many levels is not written once for each that it has too many: that took minutes."""
    written: list[int] = []
    write = sessions._write_path

    def count_levels(levels: Any) -> str:
        written.append(len(levels))
        return write(levels)

    monkeypatch.setattr(sessions, "_write_path", count_levels)
    cut = sessions.cut_session([level] * 3000, 250)
    assert cut is not None
    assert 200 < len(cut) <= 250
    assert len(json.loads(cut)) > 40  # of quotes, which take two characters
    assert len(written) < 1000
    assert sum(written) < 3000 + 1000 * 83


@pytest.mark.parametrize(("given", "levels"), [(json.dumps(LONG), 3), ("s" * 400, None)])
def test_what_mlflows_functions_write_is_cut_likewise(given: str, levels: int | None) -> None:
    """MLflow refuses a session of more than 250 characters."""
    update = {"metadata": {SESSION: given, "mlflow.trace.user": "u" * 400, "other": "o" * 400}}
    metadata = stored({"mlspan.trace.update": json.dumps(update)}).summary.metadata
    assert len(metadata[SESSION]) <= 250
    assert (levels is None) or len(json.loads(metadata[SESSION])) == levels
    assert len(metadata["mlflow.trace.user"]) == 250
    assert len(metadata["other"]) == 400


def test_spending_by_levels(scripted: Any) -> None:
    """A session is named as it was set."""
    openai = pytest.importorskip("openai")
    from mlspan import integrations

    integrations.openai.autolog()
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
    scripted.reply(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    )
    tracing.spend()
    with openai.OpenAI(base_url=scripted.base_url, api_key="test") as client, tracing.session(["trip-2", "ep-2"]):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert tracing.spend(session=["trip-2", "ep-2"]).calls == 1
    assert tracing.spend(session=PATH).calls == 1
    assert tracing.spend(session="trip-2").calls == 0


@pytest.fixture(params=["embedded", "server"])
def place(request: pytest.FixtureRequest, tracing_off: None) -> Iterator[str]:
    """A store of each kind, with an experiment of its own."""
    mlflow = pytest.importorskip("mlflow")
    uri = request.getfixturevalue("mlflow_store" if request.param == "embedded" else "mlflow_server")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLSPAN_TRACKING_URI")
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(f"sessions-{uuid.uuid4().hex[:8]}")
        tracing.configure()
        yield uri
        mlflow.set_tracking_uri(None)


def test_mlflow_groups_by_level(place: str) -> None:
    """MLflow has the path back, whole or cut, set by us or by its own function; 3.18 groups its scorers by a level."""
    import mlflow

    for number in range(2):
        with tracing.session(["trip-2", f"ep-{number}"]), tracing.span(f"turn {number}"):
            pass
    with tracing.session(LONG), tracing.span("long"):
        pass
    with tracing.span("by attribute"):
        get_current_span().set_attribute("session.id", ["trip-3", "ep-1"])
    with tracing.span("by MLflow"):
        mlflow.update_current_trace(session_id=json.dumps(["trip-4", "e" * 300]))
    assert tracing.flush(60)
    found = mlflow.search_traces(return_type="list")
    paths = {one.data.spans[0].name: json.loads(one.info.trace_metadata[SESSION]) for one in found}
    assert paths["turn 0"] == ["trip-2", "ep-0"]
    assert paths["turn 1"] == ["trip-2", "ep-1"]
    assert paths["by attribute"] == ["trip-3", "ep-1"]
    assert (len(paths["long"]), paths["long"][1]) == (3, "ep-2")
    assert paths["by MLflow"][0] == "trip-4"
    if version.parse(mlflow.__version__) < version.parse("3.18"):
        return
    from mlflow.tracing.utils.session_hierarchy import session_group_key

    values = [one.info.trace_metadata[SESSION] for one in found if one.data.spans[0].name.startswith("turn")]
    assert {session_group_key(value, 0) for value in values} == {'["trip-2"]'}
