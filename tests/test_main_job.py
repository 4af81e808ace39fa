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
        # The server of MLflow 3.6 encodes the text of an attribute twice, and gives it back in quotation marks.
        assert [str(said).strip('"') for said in (tool.span_type, tool.outputs)] == ["TOOL", "sunny in Paris"]
    finally:
        mlflow.set_tracking_uri(before)
