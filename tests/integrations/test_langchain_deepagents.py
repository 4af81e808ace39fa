"""LangChain's deepagents, as its quick start has them: a plan, files and subagents, as one tree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("deepagents", reason="in the nox session deepagents")

from deepagents import create_deep_agent
from langchain.agents.middleware import TodoListMiddleware
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from openai import DefaultAsyncHttpxClient
from openai_answers import answer, count_tokens, list_links
from openai_chunks import REFUSAL

from mlspan import integrations
from mlspan.testing import Spans, content

CHAT = "chat m [12 in, 5 out]"
PLANS = answer(None, ("call_1", "write_todos", {"todos": [{"content": "look", "status": "in_progress"}]}))
HANDS_OVER = answer(None, ("call_2", "task", {"description": "How is Paris?", "subagent_type": "expert"}))
ASKS = answer(None, ("call_3", "get_weather", {"city": "Paris"}))
WRITES = answer(None, ("call_4", "write_file", {"file_path": "/report.md", "content": "sunny"}))
READS = answer(None, ("call_5", "read_file", {"file_path": "/report.md"}))
QUESTION: Any = {"messages": [{"role": "user", "content": "weather in Paris?"}]}


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"sunny in {city}"


@pytest.fixture(params=["alone", "with openai"])
def _on(request: pytest.FixtureRequest, spans: Spans) -> Iterator[None]:
    integrations.langchain.autolog()
    if request.param == "with openai":
        integrations.openai.autolog()
    yield
    integrations.langchain.autolog(disable=True)
    integrations.openai.autolog(disable=True)


pytestmark = pytest.mark.usefixtures("_on")


def make_agent(server: Any, name: str | None = "reporter", client: Any = None, **options: Any) -> Any:
    expert: Any = {"name": "expert", "description": "Knows the sun.", "system_prompt": "You know the sun."}
    model = ChatOpenAI(model="m", base_url=server.base_url, api_key="test", max_retries=0, http_async_client=client)
    return create_deep_agent(
        model=model,
        tools=[get_weather],
        system_prompt="You report the weather.",
        middleware=[TodoListMiddleware()],
        subagents=[{**expert, "tools": [get_weather]}],
        name=name,
        **options,
    )


def show(spans: Spans) -> str:
    """Return the tree without the nodes of graphs, whose names are deepagents' own business."""
    kept, left_out = [], []
    for line in spans.tree().splitlines():
        depth = len(line) - len(line.lstrip())
        left_out = [one for one in left_out if one < depth]
        if line.strip().startswith(("chat", "execute_tool", "invoke_")):
            kept.append(" " * (depth - 2 * len(left_out)) + line.strip())
        else:
            left_out.append(depth)
    return "\n".join(kept)


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream"])
def test_a_plan_files_and_a_subagent(how: str, scripted: Any, spans: Spans) -> None:
    """One tree: each tool is linked to the call that asked, the subagent is below its tool, each token counts once."""
    for one in (PLANS, HANDS_OVER, ASKS, answer("Sunny."), WRITES, READS, answer("It is sunny.")):
        scripted.reply(one)

    async def ask() -> Any:
        async with DefaultAsyncHttpxClient() as client:  # LangChain's own lives longer than a loop
            return await make_agent(scripted, client=client).ainvoke(QUESTION)

    if how == "stream":
        assert [*make_agent(scripted).stream(QUESTION)]
    else:
        told = make_agent(scripted).invoke(QUESTION) if how == "invoke" else asyncio.run(ask())
        assert (told["messages"][-1].content, [*told["files"]]) == ("It is sunny.", ["/report.md"])
    assert show(spans) == (
        f"invoke_agent reporter\n  {CHAT}\n  execute_tool write_todos\n  {CHAT}\n  execute_tool task\n"
        f"    invoke_agent expert\n      {CHAT}\n      execute_tool get_weather\n      {CHAT}\n"
        f"  {CHAT}\n  execute_tool write_file\n  {CHAT}\n  execute_tool read_file\n  {CHAT}"
    )
    assert count_tokens(spans) == (84, 35)
    for name in ("write_todos", "task", "get_weather", "write_file", "read_file"):
        assert list_links(spans, f"execute_tool {name}") == [("asked_by", "chat m")]
    root, expert = spans.named("invoke_agent reporter")[0], spans.named("invoke_agent expert")[0]
    for agent_span in (root, expert):
        known = dict(agent_span.attributes or {})
        assert (known["gen_ai.request.model"], known["gen_ai.response.finish_reasons"]) == ("m", ("stop",))
        assert "mlspan.kind" not in known
    assert "weather in Paris?" in str(content(root, "mlspan.input"))
    assert "It is sunny." in str(content(root, "mlspan.output"))


def test_an_agent_without_a_name(scripted: Any, spans: Spans) -> None:
    """It is an agent all the same."""
    scripted.reply(answer("It is sunny."))
    make_agent(scripted, None).invoke(QUESTION)
    assert show(spans) == f"invoke_agent\n  {CHAT}"


def test_a_model_that_fails_in_a_subagent(scripted: Any, spans: Spans) -> None:
    """The call, its agent, the tool that has handed over and the run are errors."""
    scripted.reply(HANDS_OVER)
    scripted.reply(REFUSAL, status=400)
    with pytest.raises(Exception, match="400"):
        make_agent(scripted).invoke(QUESTION)
    lines = [line.strip() for line in show(spans).splitlines()]
    assert lines[1] == CHAT
    failed = ("invoke_agent reporter", "execute_tool task", "invoke_agent expert", "chat m")
    found = [line.partition(" [ERROR ") for line in lines if line != CHAT]
    assert tuple(name for name, _, _ in found) == failed
    assert [error for _, _, error in found if not error.endswith("RequestError]")] == []


def test_a_person_who_approves(scripted: Any, spans: Spans) -> None:
    """A tool that waits for a person is no error; what goes on is linked to what has waited."""
    scripted.reply(WRITES)
    scripted.reply(answer("It is sunny."))
    agent = make_agent(scripted, interrupt_on={"write_file": True}, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t-1"}}
    assert agent.invoke(QUESTION, config)["__interrupt__"]
    agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), config)
    assert show(spans) == (
        f"invoke_agent reporter\n  {CHAT}\ninvoke_agent reporter\n  execute_tool write_file\n  {CHAT}"
    )
    assert list_links(spans, "invoke_agent reporter") == [("resumes", "invoke_agent reporter")]
    assert {(one.attributes or {})["gen_ai.conversation.id"] for one in spans.named("invoke_agent reporter")} == {"t-1"}
