"""The main job from end to end, on whichever MLflow there is: the nox session ``mlflow`` has the oldest and newest."""

from __future__ import annotations

from typing import Any

import pytest

mlflow = pytest.importorskip("mlflow")
openai = pytest.importorskip("openai")

from mlspan import integrations, tracing

ASKS = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 0,
    "model": "gpt-x",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "tool_calls": [
                    {"id": "t-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
                ],
            },
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
SAYS = {
    **ASKS,
    "id": "c-2",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "sunny"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
}


@tracing.trace(kind="tool")
def weather(city: str) -> str:
    return f"sunny in {city}"


@pytest.mark.parametrize("kind", ["mlflow_store", "mlflow_server"])
def test_a_chat_with_a_tool_in_a_run(
    kind: str, request: pytest.FixtureRequest, scripted: Any, tracing_off: None, tmp_path: Any
) -> None:
    """What MLflow gives back has the tree, the run, the tokens and the words."""
    uri = request.getfixturevalue(kind)
    scripted.reply(ASKS)
    scripted.reply(SAYS)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        tracing.configure(tracking_uri=uri, spool_dir=tmp_path / "spool")
        integrations.openai.autolog()
        mlflow.set_experiment("main job")
        with mlflow.start_run() as run, openai.OpenAI(base_url=scripted.base_url, api_key="test") as client:
            said: list[Any] = [{"role": "user", "content": "Is it sunny?"}]
            with tracing.span("assistant", kind="agent"):
                client.chat.completions.create(model="gpt-x", messages=said)
                weather("Paris")
                client.chat.completions.create(model="gpt-x", messages=said)
        assert tracing.flush(60)
        (found,) = mlflow.search_traces(locations=[run.info.experiment_id], run_id=run.info.run_id, return_type="list")
        trace = mlflow.get_trace(found.info.trace_id)
        assert trace is not None
        names = {span.span_id: span.name for span in trace.data.spans}
        assert sorted((names.get(span.parent_id, ""), span.name) for span in trace.data.spans) == [
            ("", "invoke_agent assistant"),
            ("invoke_agent assistant", "chat gpt-x"),
            ("invoke_agent assistant", "chat gpt-x"),
            ("invoke_agent assistant", "execute_tool weather"),
        ]
        assert str(trace.info.state).endswith("OK")
        assert trace.info.trace_metadata["mlflow.sourceRun"] == run.info.run_id
        assert trace.info.token_usage["total_tokens"] == 17
        (tool,) = (span for span in trace.data.spans if span.name == "execute_tool weather")
        assert (tool.span_type, tool.inputs, tool.outputs) == ("TOOL", {"city": "Paris"}, "sunny in Paris")
        chats = [span for span in trace.data.spans if span.name == "chat gpt-x"]
        assert {span.span_type for span in chats} == {"CHAT_MODEL"}
        assert all(span.inputs["messages"] == said for span in chats)
    finally:
        mlflow.set_tracking_uri(before)


VALUES = ["", "tea", "[tea", 5, -2.5, True, [1, "two", None], {"a": [1, {"b": None}]}]


@pytest.mark.parametrize("kind", ["mlflow_store", "mlflow_server"])
def test_values_come_back_as_they_were(
    kind: str, request: pytest.FixtureRequest, tracing_off: None, tmp_path: Any
) -> None:
    """What a traced function takes and returns has the same type and text in every store of every version."""
    uri = request.getfixturevalue(kind)
    tracing.configure(tracking_uri=uri, experiment="values", spool_dir=tmp_path / "spool")
    echo = tracing.trace(lambda value: value, name="echo")
    for _ in range(2):  # the first request tells what the server reads
        with tracing.span("all"):
            for value in VALUES:
                echo(value)
        assert tracing.flush(60)
    client = mlflow.MlflowClient(uri)
    place = client.get_experiment_by_name("values").experiment_id
    found = client.search_traces(locations=[place])
    assert len(found) == 2
    for trace in found:
        ended = sorted((one for one in trace.data.spans if one.name == "echo"), key=lambda one: one.start_time_ns)
        assert [one.inputs for one in ended] == [{"value": value} for value in VALUES]
        assert [one.outputs for one in ended] == VALUES
        assert [type(one.outputs) for one in ended] == [type(value) for value in VALUES]
