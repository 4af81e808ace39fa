"""Our traces as MLflow's own tools read them: prompts, models, scorers, ``mlflow traces`` and ``mlflow mcp run``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
import warnings
from typing import Any

import pytest
from test_mlflow import ask, client, place  # noqa: F401  # fixtures
from test_mlflow_in_process import mlflows_own_exporter, stored  # noqa: F401

from mlspan import tracing

mlflow = pytest.importorskip("mlflow")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow.genai
    import mlflow.genai.scorers
    import mlflow.pyfunc

pytestmark = [
    pytest.mark.timeout(600),  # a command imports all of MLflow
    pytest.mark.usefixtures("tracing_off"),
    pytest.mark.filterwarnings("ignore"),
]
embedded = pytest.mark.parametrize("place", ["embedded"], indirect=True)  # the tools read a store, whichever it is


def run_agent(client: Any) -> Any:  # noqa: F811
    """One trace with an agent, a retrieval, a tool and a chat."""
    with tracing.session("s-1"), tracing.span("helper", kind="agent", input={"question": "hello"}) as agent:
        with tracing.span("docs", kind="retrieval", input="capital of France") as found:
            found.output = [{"content": "Paris is the capital of France.", "id": "d-1", "score": 0.9}]
        with tracing.span("look_up", kind="tool", input={"city": "Paris"}) as tool:
            tool.output = "sunny"
        ask(client)
        agent.output = "Hi there!"
    (trace,) = stored()
    return trace


@embedded
def test_a_prompt_and_a_model_find_their_traces(client: Any, place: str) -> None:  # noqa: F811
    """A prompt that is loaded in our span, and the model that is active, lead to the trace."""
    name = f"ask-{uuid.uuid4().hex[:8]}"
    mlflow.genai.register_prompt(name=name, template="Say {{word}}.")
    model = mlflow.set_active_model(name=f"agent-{uuid.uuid4().hex[:8]}")
    try:
        with tracing.span("helper", kind="agent"):
            prompt = mlflow.genai.load_prompt(f"prompts:/{name}/1")
            ask(client, prompt.format(word="hello"))
    finally:
        mlflow.clear_active_model()
    (trace,) = stored()
    ids = [trace.info.trace_id]
    by_prompt = mlflow.search_traces(filter_string=f"prompt = '{name}/1'", return_type="list")
    by_model = mlflow.search_traces(model_id=model.model_id, return_type="list")
    assert [one.info.trace_id for one in by_prompt] == ids
    assert [one.info.trace_id for one in by_model] == ids


@embedded
def test_a_scorer_finds_its_way_in_our_tree(client: Any, place: str) -> None:  # noqa: F811
    """What a scorer asks a trace for: spans by type, inputs, outputs, tokens; and the loader of online scoring."""
    trace = run_agent(client)
    kinds = mlflow.entities.SpanType

    @mlflow.genai.scorer
    def read(trace: Any) -> str:
        (tool,) = trace.search_spans(span_type=kinds.TOOL)
        (chat,) = trace.search_spans(span_type=kinds.CHAT_MODEL)
        (found,) = trace.search_spans(span_type=kinds.RETRIEVER)
        (agent,) = trace.search_spans(span_type=kinds.AGENT)
        texts = [document["page_content"] for document in found.outputs]
        said = chat.outputs["choices"][0]["message"]["content"]
        return json.dumps(
            [tool.inputs, tool.outputs, texts, agent.inputs, said, trace.info.token_usage["total_tokens"]]
        )

    result = mlflow.genai.evaluate(data=[trace], scorers=[read])
    (scored,) = mlflow.search_traces(run_id=result.run_id, return_type="list")
    (assessment,) = scored.info.assessments
    assert json.loads(assessment.feedback.value) == [
        {"city": "Paris"},
        "sunny",
        ["Paris is the capital of France."],
        {"question": "hello"},
        "Hi there!",
        17,
    ]
    loading = pytest.importorskip("mlflow.genai.scorers.online.trace_loader")
    from mlflow.tracking._tracking_service.utils import _get_store

    (online,) = loading.OnlineTraceLoader(_get_store()).fetch_traces([trace.info.trace_id])
    assert len(online.data.spans) == 4


@embedded
def test_a_judge_is_shown_what_we_recorded(client: Any, place: str, scripted: Any, monkeypatch: Any) -> None:  # noqa: F811
    """One of MLflow's built-in judges gets the question, the answer and the documents of our trace."""
    trace = run_agent(client)
    verdict = {"result": "yes", "rationale": "It says so."}
    message = {"role": "assistant", "content": json.dumps(verdict)}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    head = {"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    scripted.reply({**head, "choices": choices, "usage": usage})
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_API_BASE", scripted.base_url)
    judge = mlflow.genai.scorers.RetrievalGroundedness(model="openai:/gpt-4o-mini")
    given = judge(trace=trace)
    assert [one.value.value for one in (given if isinstance(given, list) else [given])] == ["yes"]
    asked = json.dumps(scripted.requests[-1])
    assert "Paris is the capital of France." in asked
    assert "Hi there!" in asked


@embedded
def test_the_traces_command(client: Any, place: str) -> None:  # noqa: F811
    """``mlflow traces search`` lists our trace, and ``get`` prints it."""
    trace = run_agent(client)

    def mlflow_traces(*args: str) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "mlflow", "traces", *args]
        env = {**os.environ, "MLFLOW_TRACKING_URI": place}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = mlflow_traces(
        "search", "--experiment-id", trace.info.experiment_id, "--filter-string", "trace.name LIKE '%helper%'"
    )
    assert trace.info.trace_id in found
    got = json.loads(mlflow_traces("get", "--trace-id", trace.info.trace_id))
    assert sorted(span["name"] for span in got["data"]["spans"]) == [
        "chat gpt-4o-mini",
        "execute_tool look_up",
        "invoke_agent helper",
        "retrieval docs",
    ]


@embedded
def test_the_mcp_server(client: Any, place: str) -> None:  # noqa: F811
    """``mlflow mcp run`` gives our trace to whoever asks it, by the tool ``get_trace``."""
    pytest.importorskip("fastmcp")
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    trace = run_agent(client)
    transport = StdioTransport(
        sys.executable,
        ["-W", "ignore", "-m", "mlflow", "mcp", "run"],
        env={**os.environ, "MLFLOW_TRACKING_URI": place},
        keep_alive=False,
    )

    async def ask_server() -> str:
        async with Client(transport, init_timeout=240, timeout=240) as asking:
            answer = await asking.call_tool("get_trace", {"trace_id": trace.info.trace_id})
            return str(answer.content[0].text)

    got = json.loads(asyncio.run(asyncio.wait_for(ask_server(), 400)))
    assert len(got["data"]["spans"]) == 4
    assert got["info"]["trace_id"] == trace.info.trace_id
