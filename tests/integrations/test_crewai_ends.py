"""How CrewAI's runs end, its streams, memories and knowledge, and its own telemetry beside ours."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("crewai")

from crewai import Crew, Knowledge
from crewai.events.base_event_listener import BaseEventListener
from crewai.events.event_bus import CrewAIEventsBus, crewai_event_bus
from crewai.events.types.llm_events import LLMCallStartedEvent
from crewai.flow.flow import Flow, start
from crewai.tools import tool
from crewai_kit import (
    ASK_WEATHER,
    MODEL,
    ask_for,
    list_chunks,
    make_agent,
    make_model,
    make_task,
    make_trip,
    say,
    start_handler_threads,
)
from opentelemetry import trace

from mlspan import integrations, tracing
from mlspan.testing import Spans, content

pytestmark = [
    pytest.mark.usefixtures("crewai_on"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # CrewAI closes no client
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _handler_threads() -> None:
    start_handler_threads()


STREAMED = (
    "invoke_workflow trip\n"
    "  look\n"
    "    invoke_agent scout\n"
    f"      chat {MODEL} [20 in, 7 out]\n"
    "  task\n"
    "    invoke_agent writer\n"
    f"      chat {MODEL} [20 in, 7 out]"
)


@pytest.mark.parametrize("is_left", [False, True])
def test_a_streamed_crew(is_left: bool, scripted: Any, spans: Spans) -> None:
    """A crew that is streamed is the same tree. One whose reader leaves runs on to its end, as CrewAI has it do."""
    scripted.stream(*list_chunks("It ", "is."))
    stream = make_trip(make_model(scripted), stream=True).kickoff()
    said = []
    for chunk in stream:
        said.append(chunk.content)
        if is_left:
            break
    stream.close()
    assert said == (["It "] if is_left else ["It ", "is."] * 2)
    assert spans.tree() == STREAMED


async def test_an_asynchronous_stream(scripted: Any, spans: Spans) -> None:
    """Read to its end, it is the same tree."""
    scripted.stream(*list_chunks("It ", "is."))
    stream = await make_trip(make_model(scripted), stream=True).akickoff()
    assert [chunk.content async for chunk in stream] == ["It ", "is."] * 2
    assert spans.tree() == STREAMED


async def test_an_asynchronous_stream_that_is_left(scripted: Any, spans: Spans) -> None:
    """CrewAI cancels the crew of a stream that is read no further: a reader who leaves is no error."""
    scripted.stream(*list_chunks("It ", "is ", "sunny."))
    stream = await make_trip(make_model(scripted), stream=True).akickoff()
    async for _ in stream:
        break
    await stream.aclose()
    assert spans.tree().splitlines()[:3] == [
        "invoke_workflow trip [stream closed]",
        "  look [stream closed]",
        "    invoke_agent scout [stream closed]",
    ]
    assert "ERROR" not in spans.tree()


def test_a_stream_that_breaks_off(scripted: Any, spans: Spans) -> None:
    """What was said until then is there, and the error that was raised."""
    scripted.stream(*list_chunks("It ", "is ")[:2], {"error": {"message": "it broke", "type": "server_error"}})
    with pytest.raises(Exception, match="it broke"):
        make_model(scripted, stream=True).call("weather?")
    span = spans.one()
    assert spans.tree().startswith(f"chat {MODEL} [ERROR ")
    (message,) = content(span, "gen_ai.output.messages")
    assert message["parts"] == [{"type": "text", "content": "It is "}]


async def test_a_crew_that_is_cancelled(scripted: Any, spans: Spans) -> None:
    """CrewAI reports no end of what is cancelled: the spans end all the same, and the caller's span is current."""
    at_work, go_on = threading.Event(), threading.Event()

    @tool
    def wait_here(city: str) -> str:
        """Wait."""
        at_work.set()
        go_on.wait(30)
        return city

    scripted.reply(ASK_WEATHER)
    wait_here.name = "get_weather"
    agent = make_agent(make_model(scripted), tools=[wait_here])
    with tracing.span("request"):
        around = trace.get_current_span()
        running = asyncio.create_task(Crew(agents=[agent], tasks=[make_task(agent)]).akickoff())
        await asyncio.to_thread(at_work.wait, 30)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert trace.get_current_span() is around
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()  # in one of its threads the tool comes to its end
    assert spans.tree() == (
        "request\n"
        "  invoke_workflow crew [ERROR asyncio.exceptions.CancelledError]\n"
        "    task [ERROR asyncio.exceptions.CancelledError]\n"
        "      invoke_agent scout [ERROR asyncio.exceptions.CancelledError]\n"
        f"        chat {MODEL} [30 in, 9 out]\n"
        "        execute_tool get_weather"
    )


def test_a_program_that_is_interrupted(scripted: Any, spans: Spans) -> None:
    """An interrupt passes CrewAI by, and is the error of everything that it ends."""

    @tool("get_weather")
    def interrupt(city: str) -> str:
        """Interrupt."""
        raise KeyboardInterrupt

    scripted.reply(ASK_WEATHER)
    agent = make_agent(make_model(scripted), tools=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        Crew(agents=[agent], tasks=[make_task(agent)]).kickoff()
    assert spans.tree() == (
        "invoke_workflow crew [ERROR KeyboardInterrupt]\n"
        "  task [ERROR KeyboardInterrupt]\n"
        "    invoke_agent scout [ERROR KeyboardInterrupt]\n"
        f"      chat {MODEL} [30 in, 9 out]\n"
        "      execute_tool get_weather [ERROR KeyboardInterrupt]"
    )


async def test_a_method_that_is_cancelled_with_its_flow(spans: Spans) -> None:
    """Methods that run side by side end with the task in which they run."""
    at_work = asyncio.Event()

    class Slow(Flow[Any]):
        @start()
        async def wait(self) -> None:
            at_work.set()
            await asyncio.sleep(60)

    running = asyncio.create_task(Slow().kickoff_async())
    await asyncio.wait_for(at_work.wait(), 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert spans.tree() == (
        "invoke_workflow Slow [ERROR asyncio.exceptions.CancelledError]\n"
        "  wait [ERROR asyncio.exceptions.CancelledError]"
    )


def test_an_agent_that_takes_too_long(scripted: Any, spans: Spans) -> None:
    """The time limit is the agent's error; the call in the thread behind it has its own end."""
    scripted.reply(say("late"), delay=1.5)
    agent = make_agent(make_model(scripted), max_execution_time=1)
    with pytest.raises(TimeoutError):
        Crew(agents=[agent], tasks=[make_task(agent)]).kickoff()
    assert spans.tree() == (
        "invoke_workflow crew [ERROR TimeoutError]\n"
        "  task [ERROR TimeoutError]\n"
        "    invoke_agent scout [ERROR TimeoutError]\n"
        f"      chat {MODEL} [20 in, 7 out]"
    )


def _embed(texts: list[str]) -> list[list[float]]:
    return [[1.0, float(len(text) % 7)] for text in texts]


@pytest.fixture
def memory(tmp_path: Path, scripted: Any) -> Iterator[Any]:
    """A memory on disk, whose saves are analysed by the scripted model."""
    pytest.importorskip("lancedb")
    from crewai.memory.unified_memory import Memory

    kept = Memory(llm=make_model(scripted), embedder=_embed, storage=str(tmp_path / "memory"))
    yield kept
    kept.close()
    shutil.rmtree(tmp_path / "memory", ignore_errors=True)


def test_what_a_memory_keeps_and_finds(memory: Any, spans: Spans) -> None:
    """Saves and searches are the conventions' operations of a memory, with what is kept and found."""
    facts = {"scope": "/trip", "categories": ["weather"], "importance": 0.5}
    memory.remember("It is sunny in Paris.", **facts)
    memory.remember_many(["Rome is hot.", "Oslo is cold."], **facts)
    found = memory.recall("Paris?", depth="shallow", limit=3)
    saved, many, search = spans.all
    assert [span.name for span in spans.all] == ["upsert_memory", "upsert_memory", "search_memory"]
    assert content(saved, "gen_ai.memory.records") == [{"content": "It is sunny in Paris."}]
    assert content(many, "gen_ai.memory.records") == [{"content": "Rome is hot."}, {"content": "Oslo is cold."}]
    assert (search.attributes or {})["gen_ai.memory.query.text"] == "Paris?"
    records = content(search, "gen_ai.memory.records")
    assert [one["content"] for one in records] == [match.record.content for match in found]
    assert [one["id"] for one in records] == [match.record.id for match in found]
    assert (search.attributes or {})["gen_ai.memory.record.count"] == len(found) > 1


def test_a_memory_that_fails(memory: Any, spans: Spans) -> None:
    """The exception that was raised is that of the search."""

    def fail(texts: list[str]) -> list[list[float]]:
        raise ConnectionError("no vectors")

    memory.embedder = memory._embedder_instance = fail
    with pytest.raises(ConnectionError):
        memory.recall("Paris?", depth="shallow")
    assert spans.tree() == "search_memory [ERROR ConnectionError]"


class _Storage:
    """A knowledge storage in this process."""

    def search(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return [{"id": "d-1", "score": 0.9, "content": "Paris is sunny.", "metadata": {"page": 3}}]


def test_what_a_crew_knows(scripted: Any, spans: Spans) -> None:
    """A search in the knowledge of a crew is a retrieval, with its question and its documents."""
    from crewai.knowledge.storage.base_knowledge_storage import BaseKnowledgeStorage

    members: dict[str, Any] = {name: (lambda self, *_, **__: None) for name in BaseKnowledgeStorage.__abstractmethods__}
    storage_class: Any = type("Storage", (BaseKnowledgeStorage,), {**members, "search": _Storage.search})
    knowledge = Knowledge(collection_name="guide", sources=[], storage=storage_class())
    knowledge.collection_name = "guide"
    for text in ("Paris weather", "It is sunny."):
        scripted.reply(say(text))
    agent = make_agent(make_model(scripted))
    crew = Crew(agents=[agent], tasks=[make_task(agent)])
    agent.knowledge = knowledge
    crew.kickoff()
    assert [line.strip() for line in spans.tree().splitlines() if "retrieval" in line][:1] == ["retrieval guide"]
    search = spans.named("retrieval guide")[0]
    assert (search.attributes or {})["gen_ai.retrieval.query.text"] == "Paris weather"
    assert content(search, "gen_ai.retrieval.documents") == [
        {"id": "d-1", "score": 0.9, "content": "Paris is sunny.", "metadata": {"page": 3}}
    ]


def test_handlers_of_the_program_are_called_as_ever(scripted: Any, spans: Spans) -> None:
    """A listener of the program gets its events while ours is on, and the bus holds no handler of ours."""
    heard: list[str] = []
    done = threading.Event()

    class Listener(BaseEventListener):
        def setup_listeners(self, bus: Any) -> None:
            @bus.on(LLMCallStartedEvent)
            def hear(source: Any, event: Any) -> None:
                heard.append(event.type)
                done.set()

    with crewai_event_bus.scoped_handlers():
        Listener()
        scripted.reply(say("hello"))
        make_model(scripted).call("hello")
        assert done.wait(10)
    assert heard == ["llm_call_started"]
    assert spans.tree() == f"chat {MODEL} [20 in, 7 out]"


TELEMETRY = """
import os, sys
os.environ |= {"CREWAI_DISABLE_VERSION_CHECK": "true", "CREWAI_TRACING_ENABLED": "false", "CREWAI_TESTING": "true"}
for name in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_TRACKING", "OTEL_SDK_DISABLED"):
    os.environ.pop(name, None)
import opentelemetry.exporter.otlp.proto.http.trace_exporter as otlp
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
otlp.OTLPSpanExporter.export = lambda self, spans: SpanExportResult.SUCCESS  # nothing is to leave this machine
from mlspan import integrations, tracing
from crewai import Agent, Crew, Task, LLM
from crewai.events.event_bus import CrewAIEventsBus, crewai_event_bus
from crewai.telemetry.telemetry import Telemetry
theirs = InMemorySpanExporter()
Telemetry().provider.add_span_processor(SimpleSpanProcessor(theirs))
def tell():
    model = LLM(model="gpt-4o-mini", base_url=sys.argv[1], api_key="test")
    agent = Agent(role="scout", goal="g", backstory="b", llm=model)
    theirs.clear()
    Crew(agents=[agent], tasks=[Task(description="hello", expected_output="x", agent=agent)]).kickoff()
    crewai_event_bus.flush()
    return sorted((span.name, span.parent is None) for span in theirs.get_finished_spans())
tell()  # what is told once a process
bare = tell()
for ratio in (1.0, 0.0):
    tracing.configure(sample_ratio=ratio)
    integrations.crewai.autolog()
    found = tell()
    assert found == bare, (ratio, found, bare)
print("told", len(bare), all(is_root for _, is_root in bare))
"""


def test_telemetry_of_crewai_goes_on_as_it_was(scripted: Any, tmp_path: Path) -> None:
    """Its spans are the same, with no parent of ours, whether we record everything, nothing, or are not there."""
    scripted.reply(say("hello"))
    command = [sys.executable, "-c", TELEMETRY, scripted.base_url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    told, count, are_roots = done.stdout.split()[-3:]
    assert (told, int(count) > 3, are_roots) == ("told", True, "True")


def test_turned_off_nothing_is_left(scripted: Any, spans: Spans) -> None:
    """After ``disable=True`` a crew leaves no span."""
    integrations.crewai.autolog(disable=True)
    scripted.reply(say("hello"))
    agent = make_agent(make_model(scripted))
    Crew(agents=[agent], tasks=[make_task(agent)]).kickoff()
    assert spans.tree() == ""


@pytest.mark.parametrize("again", [False, True])
def test_turned_off_in_the_middle(again: bool, scripted: Any, spans: Spans) -> None:
    """What has begun ends with its result, and nothing begins; turned on again meanwhile, each is there once.

    The event bus is its own again after the last end.
    """
    emit = CrewAIEventsBus.emit

    @tool
    def switch(city: str) -> str:
        """Turn the hook off."""
        integrations.crewai.autolog(disable=True)
        if again:
            integrations.crewai.autolog()
        return f"sunny in {city}"

    for answer in (ask_for(("call_1", "switch", {"city": "Paris"})), say("It is sunny.")):
        scripted.reply(answer)
    agent = make_agent(make_model(scripted), tools=[switch])
    Crew(agents=[agent], tasks=[make_task(agent, "look")], name="trip").kickoff()
    last = [f"      chat {MODEL} [20 in, 7 out]"] if again else []
    begun = ["invoke_workflow trip", "  look", "    invoke_agent scout", f"      chat {MODEL} [30 in, 9 out]"]
    assert spans.tree().splitlines() == [*begun, "      execute_tool switch", *last]
    crew, task, agent_span, *_ = spans.all
    assert [content(span, "mlspan.output") for span in (crew, task, agent_span)] == ["It is sunny."] * 3
    assert content(spans.named("execute_tool switch")[0], "gen_ai.tool.call.result") == "sunny in Paris"
    integrations.crewai.autolog(disable=True)
    assert hasattr(emit, "__wrapped__")
    assert not hasattr(CrewAIEventsBus.emit, "__wrapped__")
