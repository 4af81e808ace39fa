"""MLflow's own functions on our spans, and its spans and ours in one trace, on a database and on a tracking server."""

from __future__ import annotations

import asyncio
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from test_mlflow import ask, client, place  # noqa: F401  # fixtures

from mlspan import integrations, tracing
from mlspan.tracing.mlflow_state import shared_spans

mlflow = pytest.importorskip("mlflow")
openai = pytest.importorskip("openai")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow imports these inside its functions, and warns of its own types
    import mlflow.genai
    import mlflow.pyfunc

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("tracing_off"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


@pytest.fixture(autouse=True)
def mlflows_own_exporter() -> Iterator[None]:
    """MLflow makes its exporter for the store of the first span, and keeps it."""
    yield
    mlflow.flush_trace_async_logging(terminate=True)
    mlflow.tracing.reset()


def stored() -> list[Any]:
    """Every trace of the experiment, once MLflow's exporter and ours have sent what they have."""
    mlflow.flush_trace_async_logging()
    assert tracing.flush(60)
    found = mlflow.search_traces(return_type="list")
    return sorted(found, key=lambda trace: min(span.start_time_ns for span in trace.data.spans))


def tree(trace: Any) -> list[str]:
    """The names of a trace's spans, each below the one that it is indented under."""
    below: dict[str | None, list[Any]] = {}
    for span in sorted(trace.data.spans, key=lambda span: span.start_time_ns):
        below.setdefault(span.parent_id, []).append(span)

    def lines(parent: str | None, depth: int) -> Iterator[str]:
        for span in below.pop(parent, []):
            yield "  " * depth + span.name
            yield from lines(span.span_id, depth + 1)

    found = list(lines(None, 0))
    assert below == {}, "spans whose parent is not there"
    return found


def test_our_spans_inside_mlflows(client: Any, place: str) -> None:  # noqa: F811
    """A call inside ``mlflow.start_span`` is part of that trace, with its tokens."""
    with mlflow.start_span("handle", span_type="CHAIN") as span:
        span.set_inputs({"question": "hello"})
        ask(client)
        with tracing.span("look up", kind="tool"):
            pass
    (found,) = stored()
    assert tree(found) == ["handle", "  chat gpt-4o-mini", "  execute_tool look up"]
    assert found.info.tags["mlflow.traceName"] == "handle"
    assert found.info.token_usage["total_tokens"] == 17
    assert found.info.state.value == "OK"


def test_mlflows_spans_inside_ours(client: Any, place: str) -> None:  # noqa: F811
    """``mlflow.start_span`` and a function with ``@mlflow.trace`` inside a span of ours are part of its trace."""

    @mlflow.trace(span_type="TOOL")
    def look_up(city: str) -> str:
        ask(client)
        return "sunny"

    with tracing.span("helper", kind="agent"):
        with mlflow.start_span("plan"):
            pass
        look_up("Paris")
    (found,) = stored()
    assert tree(found) == ["invoke_agent helper", "  plan", "  look_up", "    chat gpt-4o-mini"]
    by_name = {span.name: span for span in found.data.spans}
    assert (by_name["look_up"].inputs, by_name["look_up"].outputs) == ({"city": "Paris"}, "sunny")
    assert by_name["look_up"].span_type == "TOOL"
    assert found.info.token_usage["total_tokens"] == 17
    assert found.info.tags["mlflow.traceName"] == "invoke_agent helper"


async def test_coroutines_and_generators_nest_too(aimock: str, place: str) -> None:  # noqa: F811
    """Coroutines at the same time, and an async generator, each keep to their own trace."""

    @mlflow.trace
    async def answer(client: Any, name: str) -> str:
        with tracing.span(name):
            await asyncio.sleep(0)
            await client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
        return name

    @mlflow.trace
    async def count() -> Any:
        for number in range(2):
            with tracing.span(f"step {number}"):
                yield number

    async with openai.AsyncOpenAI(base_url=aimock, api_key="test") as client:  # noqa: F811
        await asyncio.gather(answer(client, "a"), answer(client, "b"))
        with tracing.span("all"):
            assert [number async for number in count()] == [0, 1]
    trees = sorted("\n".join(tree(trace)) for trace in stored())
    assert trees == [
        "all\n  count\n    step 0\n    step 1",
        "answer\n  a\n    chat gpt-4o-mini",
        "answer\n  b\n    chat gpt-4o-mini",
    ]


def test_threads_that_begin_at_once(place: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The first spans of MLflow's below a span of ours may start in several threads at the same time."""
    register, both = shared_spans._register_trace, threading.Barrier(2)

    def register_beside(*args: Any) -> str:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)  # for the other thread, which comes here, or waits until this one has done it
        return register(*args)

    monkeypatch.setattr(shared_spans, "_register_trace", register_beside)

    @mlflow.trace
    def work(number: int) -> None:
        with tracing.span(f"step {number}"):
            pass

    with tracing.span("outer", kind="workflow"):
        threads = [threading.Thread(target=tracing.wrap(work), args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    (found,) = stored()
    assert sorted(tree(found)) == ["    step 0", "    step 1", "  work", "  work", "invoke_workflow outer"]
    assert mlflow.get_current_active_span() is None
    assert shared_spans.has_ended_here(int(found.info.trace_id.removeprefix("tr-"), 16))


def test_update_current_trace(client: Any, place: str) -> None:  # noqa: F811
    """Tags, metadata, state, previews, session, user and request id reach the trace whose span is ours."""
    with tracing.tags(env="test", fruit="pear"), tracing.session("before"), tracing.span("outer", kind="agent"):
        with tracing.span("inner"):
            mlflow.update_current_trace(tags={"fruit": "apple"}, metadata={"commit": "abc"}, state="ERROR")
        ask(client)
        mlflow.update_current_trace(
            tags={"more": "yes"},
            session_id="s-1",
            user="ada",
            client_request_id="req-7",
            request_preview="asked",
            response_preview="said",
        )
    (found,) = stored()
    info = found.info
    assert {key: info.tags.get(key) for key in ("env", "fruit", "more")} == {
        "env": "test",
        "fruit": "apple",
        "more": "yes",
    }
    assert {key: info.trace_metadata.get(key) for key in ("commit", "mlflow.trace.session", "mlflow.trace.user")} == {
        "commit": "abc",
        "mlflow.trace.session": "s-1",
        "mlflow.trace.user": "ada",
    }
    assert (info.state.value, info.client_request_id) == ("ERROR", "req-7")
    assert (info.request_preview, info.response_preview) == ("asked", "said")
    assert info.token_usage["total_tokens"] == 17


def test_update_of_mlflows_trace_inside_our_span(client: Any, place: str) -> None:  # noqa: F811
    """Inside a span of ours that is part of MLflow's trace, the update is of that trace."""
    with mlflow.start_span("outer"), tracing.span("inner", kind="agent"):
        ask(client)
        mlflow.update_current_trace(tags={"fruit": "apple"}, state="ERROR", session_id="s-1")
    (found,) = stored()
    assert tree(found) == ["outer", "  invoke_agent inner", "    chat gpt-4o-mini"]
    assert found.info.tags["fruit"] == "apple"
    assert found.info.trace_metadata["mlflow.trace.session"] == "s-1"
    assert found.info.state.value == "ERROR"


def test_the_current_span_is_ours(client: Any, place: str) -> None:  # noqa: F811
    """``get_current_active_span`` gives a live span of MLflow's that writes to ours."""
    assert mlflow.get_current_active_span() is None
    with tracing.span("step"):
        span = mlflow.get_current_active_span()
        assert isinstance(span, mlflow.entities.LiveSpan)
        assert span.name == "step"
        assert span.trace_id == f"tr-{tracing.current_trace_id()}" == mlflow.get_active_trace_id()
        span.set_attribute("count", 3)
        span.set_attribute("deep", {"a": [1]})
        span.set_inputs({"question": "hello"})
        span.set_outputs("hi")
        assert (span.inputs, span.outputs) == ({"question": "hello"}, "hi")
        assert span.get_attribute("count") == 3
        assert mlflow.get_current_active_span().span_id == span.span_id
    assert mlflow.get_current_active_span() is None
    (found,) = stored()
    (span,) = found.data.spans
    assert (span.inputs, span.outputs) == ({"question": "hello"}, "hi")
    assert (span.get_attribute("count"), span.get_attribute("deep")) == (3, {"a": [1]})


def test_content_that_is_off_stays_off(place: str) -> None:  # noqa: F811
    """What MLflow's functions are given to record is content like any other."""
    tracing.configure(capture_content=False)
    with tracing.span("step"):
        mlflow.get_current_active_span().set_inputs("secret")
        mlflow.update_current_trace(request_preview="secret", tags={"fruit": "apple"})
    (found,) = stored()
    assert found.info.tags["fruit"] == "apple"
    assert "secret" not in str(found.to_dict())


def test_feedback_on_the_current_trace(client: Any, place: str) -> None:  # noqa: F811
    """``log_feedback`` and ``log_expectation`` on the trace that is open, and on the last one right after it."""
    with tracing.span("helper", kind="agent"):
        ask(client)
        source = mlflow.entities.AssessmentSource(source_type="HUMAN", source_id="ada")
        mlflow.log_feedback(
            trace_id=mlflow.get_active_trace_id(), name="thumbs", value=True, rationale="right", source=source
        )
    last = mlflow.get_last_active_trace_id()
    mlflow.log_expectation(trace_id=last, name="answer", value="Paris")
    mlflow.set_trace_tag(last, "seen", "yes")
    (found,) = stored()
    assert found.info.trace_id == last
    assert found.info.tags["seen"] == "yes"
    given = {one.name: one for one in found.info.assessments}
    assert given["thumbs"].feedback.value is True
    assert (given["thumbs"].rationale, given["thumbs"].span_id) == ("right", None)
    assert (given["thumbs"].source.source_type, given["thumbs"].source.source_id) == ("HUMAN", "ada")
    assert given["answer"].expectation.value == "Paris"


def test_assessments_that_have_no_value(client: Any, place: str) -> None:  # noqa: F811
    """Feedback that could not be given, and a link to an issue, on the trace that is open; they take no other along."""
    error = mlflow.entities.AssessmentError(error_code="RATE_LIMIT", error_message="too many")
    names_issues = hasattr(mlflow, "log_issue")
    with tracing.span("helper", kind="agent"):
        here = mlflow.get_active_trace_id()
        mlflow.log_feedback(trace_id=here, name="judged", error=error)
        if names_issues:
            from mlflow.tracing.client import TracingClient

            issue = TracingClient()._create_issue(
                experiment_id=mlflow.tracking.fluent._active_experiment_id, name="slow", description="It is slow."
            )
            mlflow.log_issue(trace_id=here, issue_id=issue.issue_id, rationale="over 2 s", metadata={"seen": "twice"})
        mlflow.log_feedback(trace_id=here, name="after", value=3)
    (found,) = stored()
    given = {one.name: one for one in found.info.assessments}
    assert given["after"].feedback.value == 3
    assert (given["judged"].feedback.value, given["judged"].feedback.error.error_message) == (None, "too many")
    if names_issues:
        named = given[issue.issue_id]
        assert (named.issue.issue_name, named.rationale, named.metadata) == ("slow", "over 2 s", {"seen": "twice"})
        assert TracingClient()._get_issue(issue.issue_id).name == "slow"


def test_content_of_such_assessments_stays_off(client: Any, place: str) -> None:  # noqa: F811
    """What an error and a person say is content."""
    tracing.configure(capture_content=False)
    error = mlflow.entities.AssessmentError(error_code="RATE_LIMIT", error_message="secret", stack_trace="secret")
    with tracing.span("helper", kind="agent"):
        here, said = mlflow.get_active_trace_id(), {"rationale": "secret", "metadata": {"a": "secret"}}
        mlflow.log_feedback(trace_id=here, name="judged", error=error, **said)
    (found,) = stored()
    (one,) = found.info.assessments
    assert one.feedback.error.error_code == "RATE_LIMIT"
    assert "secret" not in str(found.to_dict())


def test_the_last_trace_of_each_thread(client: Any, place: str) -> None:  # noqa: F811
    """``get_last_active_trace_id(thread_local=True)`` is that of the caller's thread, and can be read at once."""
    found: dict[str, Any] = {}

    def work(name: str) -> None:
        ask(client, f"hello from {name}")
        last = mlflow.get_last_active_trace_id(thread_local=True)
        found[name] = mlflow.get_trace(last).info.request_preview

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {"a": "hello from a", "b": "hello from b"}


def test_an_experiment_for_each_request(client: Any, place: str) -> None:  # noqa: F811
    """``mlflow.set_experiment`` before each request, and ``set_destination``, for one context or for all."""
    from mlflow.entities.trace_location import MlflowExperimentLocation

    ids = [mlflow.set_experiment(f"request-{uuid.uuid4().hex[:8]}").experiment_id for _ in range(3)]
    for experiment in ids[:2]:
        mlflow.set_experiment(experiment_id=experiment)
        ask(client)

    async def request(experiment: str) -> None:
        mlflow.tracing.set_destination(MlflowExperimentLocation(experiment_id=experiment), context_local=True)
        with mlflow.start_span("handle"):
            ask(client)
        ask(client)

    async def serve() -> None:
        await asyncio.gather(*(asyncio.create_task(request(experiment)) for experiment in ids[1:]))

    asyncio.run(serve())
    mlflow.flush_trace_async_logging()
    assert tracing.flush(60)
    counted = {one: len(mlflow.search_traces(locations=[one], return_type="list")) for one in ids}
    assert counted == {ids[0]: 1, ids[1]: 3, ids[2]: 2}


def test_another_store_keeps_its_traces(client: Any, place: str, tmp_path: Any) -> None:  # noqa: F811
    """Where mlspan's traces go to another MLflow, the two stay apart, and both are whole."""
    tracing.configure(tracking_uri=f"sqlite:///{tmp_path}/other.db", experiment="other")
    with mlflow.start_span("handle"):
        ask(client)
    with tracing.span("helper", kind="agent"), mlflow.start_span("inner"):
        assert mlflow.get_current_active_span().name == "inner"
    mlflow.flush_trace_async_logging()
    assert tracing.flush(60)
    assert sorted(map("".join, map(tree, mlflow.search_traces(return_type="list")))) == ["handle", "inner"]
    there = mlflow.MlflowClient(f"sqlite:///{tmp_path}/other.db")
    experiment = there.get_experiment_by_name("other").experiment_id
    found = there.search_traces(locations=[experiment])
    assert sorted("".join(tree(trace)) for trace in found) == ["chat gpt-4o-mini", "invoke_agent helper"]


def test_a_shutdown_takes_everything_back(client: Any, place: str) -> None:  # noqa: F811
    """After ``tracing.shutdown()`` MLflow is as it was, blocks that are open included."""
    from mlflow.tracing import provider

    with mlflow.start_span("handle"):
        tracing.shutdown(30)
        assert mlflow.get_current_active_span().name == "handle"
    assert mlflow.get_current_active_span() is None
    assert not {"attach", "get_current"} & vars(provider.mlflow_runtime_context).keys()
    with mlflow.start_span("after"):
        pass
    integrations.openai.autolog()
