"""``mlflow.genai.evaluate`` with mlspan on: one trace for each call, which the scorers get with our spans."""

from __future__ import annotations

import asyncio
import functools
import warnings
from typing import Any

import pytest
from test_mlflow import ask, client, place  # noqa: F401  # fixtures
from test_mlflow_in_process import mlflows_own_exporter, stored, tree  # noqa: F401

from mlspan import integrations, tracing

mlflow = pytest.importorskip("mlflow")
openai = pytest.importorskip("openai")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow.genai
    import mlflow.pyfunc

pytestmark = [
    pytest.mark.timeout(600),  # the first evaluation imports half of MLflow
    pytest.mark.usefixtures("tracing_off"),
    pytest.mark.filterwarnings("ignore"),  # of MLflow and pandas, whose evaluation runs in threads of its own
]

ROWS = [{"inputs": {"question": "hello"}}, {"inputs": {"question": "hello again"}}]
REQUEST_ID, RUN = "mlflow.eval.requestId", "mlflow.sourceRun"


class Scored:
    """What a scorer was given."""

    def __init__(self) -> None:
        self.traces: list[Any] = []

        @mlflow.genai.scorer
        def has_trace(trace: Any) -> bool:
            self.traces.append(trace)
            return trace is not None

        self.scorer = has_trace

    @property
    def trees(self) -> list[list[str]]:
        return sorted(tree(trace) for trace in self.traces)


AGENT = ["answer", "  invoke_agent helper", "    chat gpt-4o-mini"]


def evaluate(scored: Scored, **more: Any) -> Any:
    return mlflow.genai.evaluate(scorers=[scored.scorer], **more)


def check(result: Any, scored: Scored, expected: list[str]) -> None:
    """Each row is one trace of the evaluation's run, with a request id of its own; the scorer has seen all of it."""
    assert scored.trees == [expected, expected]
    found = stored()
    assert [tree(trace) for trace in found] == [expected, expected]
    assert {trace.info.trace_id for trace in found} == {trace.info.trace_id for trace in scored.traces}
    assert len({trace.info.tags[REQUEST_ID] for trace in found}) == 2
    assert {trace.info.trace_metadata[RUN] for trace in found} == {result.run_id}
    assert [trace.info.token_usage["total_tokens"] for trace in found] == [17, 17]
    assert [[one.feedback.value for one in trace.info.assessments] for trace in found] == [[True], [True]]
    assert {trace.info.trace_id for trace in mlflow.search_traces(run_id=result.run_id, return_type="list")} == {
        trace.info.trace_id for trace in found
    }


def test_an_agent_is_evaluated(client: Any, place: str) -> None:  # noqa: F811
    """MLflow's patch stays off where ours is on, and its check of the function leaves no trace."""

    def answer(question: str) -> str:
        with tracing.span("helper", kind="agent"):
            return str(ask(client, question).choices[0].message.content)

    scored = Scored()
    check(evaluate(scored, data=ROWS, predict_fn=answer), scored, AGENT)


def test_a_coroutine_is_evaluated(aimock: str, place: str) -> None:  # noqa: F811
    async def answer(question: str) -> str:
        async with openai.AsyncOpenAI(base_url=aimock, api_key="test") as client:  # noqa: F811
            with tracing.span("helper", kind="agent"):
                message = {"role": "user", "content": question}
                done = await client.chat.completions.create(model="gpt-4o-mini", messages=[message])
                return str(done.choices[0].message.content)

    scored = Scored()
    check(evaluate(scored, data=ROWS, predict_fn=answer), scored, AGENT)


def test_a_function_that_mlflow_traces_gets_no_second_span(client: Any, place: str) -> None:  # noqa: F811
    @mlflow.trace
    def answer(question: str) -> str:
        with tracing.span("helper", kind="agent"):
            return str(ask(client, question).choices[0].message.content)

    scored = Scored()
    check(evaluate(scored, data=ROWS, predict_fn=answer), scored, AGENT)


def test_mlflows_autologging_comes_back(client: Any, place: str) -> None:  # noqa: F811
    """What the application has turned on of MLflow's is off for the time of the evaluation only."""

    def answer(question: str) -> str:
        return str(ask(client, question).choices[0].message.content)

    mlflow.openai.autolog()
    try:
        scored = Scored()
        check(evaluate(scored, data=ROWS, predict_fn=answer), scored, ["answer", "  chat gpt-4o-mini"])
        integrations.openai.autolog(disable=True)
        ask(client)
        last = mlflow.get_last_active_trace_id()
        assert tree(mlflow.get_trace(last, flush=True)) == ["Completions"]
    finally:
        mlflow.openai.autolog(disable=True)


def test_without_our_integration_mlflow_records_itself(client: Any, place: str) -> None:  # noqa: F811
    integrations.openai.autolog(disable=True)
    mlflow.openai.autolog()  # which a test before may have turned off for good
    try:
        scored = Scored()
        evaluate(scored, data=ROWS, predict_fn=lambda question: ask(client, question).choices[0].message.content)
        assert scored.trees == [["Completions"], ["Completions"]]
    finally:
        mlflow.openai.autolog(disable=True)


@pytest.mark.parametrize("kind", ["function", "coroutine", "partial"])
@pytest.mark.parametrize("with_mlflows_span", [False, True])
def test_spans_of_ours_without_an_integration(kind: str, with_mlflows_span: bool, place: str) -> None:  # noqa: F811
    """Decorators and blocks alone, also around spans of MLflow's: its check of the function leaves no trace either."""
    integrations.openai.autolog(disable=True)

    @tracing.trace(kind="agent", name="helper")
    def answer(question: str) -> str:
        if with_mlflows_span:
            with mlflow.start_span("look up"):
                pass
        return question

    @tracing.trace(kind="agent", name="helper")
    async def answer_later(question: str) -> str:
        await asyncio.sleep(0)
        if with_mlflows_span:
            with mlflow.start_span("look up"):
                pass
        return question

    asked = {"function": answer, "coroutine": answer_later, "partial": functools.partial(answer)}[kind]
    scored = Scored()
    result = evaluate(scored, data=ROWS, predict_fn=asked)
    name = "answer_later" if kind == "coroutine" else "answer"
    expected = [name, "  invoke_agent helper", *(["    look up"] if with_mlflows_span else [])]
    found = [trace for trace in stored() if tree(trace)]
    assert [tree(trace) for trace in found] == [expected, expected]
    assert len({trace.info.tags[REQUEST_ID] for trace in found}) == 2
    assert {trace.info.trace_metadata[RUN] for trace in found} == {result.run_id}
    assert [[one.feedback.value for one in trace.info.assessments] for trace in found] == [[True], [True]]


def test_an_error_is_a_row_with_a_failed_trace(place: str, scripted: Any) -> None:  # noqa: F811
    """A call that fails has our failed span in its trace, too."""
    with openai.OpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as failing:
        scripted.reply(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
            }
        )  # of MLflow's check
        scripted.reply({"error": {"message": "no"}}, status=400)

        def answer(question: str) -> str:
            return str(ask(failing, question).choices[0].message.content)

        scored = Scored()
        evaluate(scored, data=ROWS[:1], predict_fn=answer)
    (found,) = scored.traces
    assert tree(found) == ["answer", "  chat gpt-4o-mini"]
    assert {span.status.status_code.value for span in found.data.spans} == {"ERROR"}


def test_stored_traces_sessions_and_datasets(client: Any, place: str) -> None:  # noqa: F811
    """``evaluate(data=traces)``, one dataset made of traces, and the sessions that ``search_sessions`` finds."""
    for text in ("hello", "hello again"):
        with tracing.session("s-1"), tracing.span("helper", kind="agent", input={"question": text}):
            ask(client, text)
    traces = stored()
    scored = Scored()
    result = evaluate(scored, data=traces)
    assert scored.trees == [["invoke_agent helper", "  chat gpt-4o-mini"]] * 2
    assert result.metrics["has_trace/mean"] == 1.0
    (session,) = mlflow.search_sessions()
    assert (session.id, len(session)) == ("s-1", 2)
    dataset = mlflow.genai.create_dataset(name=f"set-{traces[0].info.trace_id}")
    dataset.merge_records(traces)
    assert len(dataset.to_df()) == 2
