"""Each scenario's spans have exactly the attributes of its golden list, at the start and at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from golden_attributes import StartNames, compare_with_golden, describe_spans
from golden_kit import HELLO, TOOL, called, chunks, completion, response
from opentelemetry import trace

from mlspan import integrations
from mlspan.testing import Spans

Scenario = Callable[[Any], None]
SCENARIOS: dict[str, tuple[str, str, Scenario]] = {}  # name -> distribution, integration, what is done with a server


def scenario(library: str, integration: str) -> Callable[[Scenario], Scenario]:
    """Register a scenario of *library*, the distribution, for the hook *integration*."""

    def register(run: Scenario) -> Scenario:
        SCENARIOS[run.__name__] = library, integration, run
        return run

    return register


@pytest.fixture(scope="module")
def _starts(_collected: Any) -> StartNames:
    starts = StartNames()
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(starts)
    return starts


@pytest.fixture
def started(_starts: StartNames) -> Iterator[StartNames]:
    """The names of the spans of one test. A provider gives no processor back, so it notes nothing outside of one."""
    with _starts:
        yield _starts


@pytest.fixture
def hooked(spans: Spans, request: pytest.FixtureRequest) -> Iterator[None]:
    library, integration, _ = SCENARIOS[request.getfixturevalue("name")]
    pytest.importorskip(_MODULES.get(library, library.replace("-", "_")), exc_type=ImportError)
    getattr(integrations, integration).autolog()
    spans.clear()
    yield
    getattr(integrations, integration).autolog(disable=True)


_MODULES = {
    "openai-agents": "agents",
    "google-genai": "google.genai",
    "langchain": "langchain.agents",
    "llama-index-core": "llama_index.llms.openai",
    "autogen-agentchat": "autogen_agentchat",
}


@scenario("openai", "openai")
def openai_chat(server: Any) -> None:
    import openai

    server.reply(completion("get_weather"))
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
        client.chat.completions.create(model="m", messages=HELLO, tools=[TOOL], temperature=0.5, seed=1, stop=["."])


@scenario("openai", "openai")
def openai_stream(server: Any) -> None:
    import openai

    server.stream(*chunks("sun", "ny"))
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
        list(client.chat.completions.create(model="m", messages=HELLO, stream=True))


@scenario("openai", "openai")
def openai_response(server: Any) -> None:
    import openai

    server.reply(response())
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
        client.responses.create(model="m", input="weather?", instructions="Be brief.", max_output_tokens=9)


@scenario("openai", "openai")
def openai_embeddings(server: Any) -> None:
    import openai

    vector = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}
    server.reply({"object": "list", "model": "m-1", "data": [vector], "usage": {"prompt_tokens": 2, "total_tokens": 2}})
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
        client.embeddings.create(model="m", input="cats", encoding_format="float")


@scenario("openai", "openai")
def openai_refusal(server: Any) -> None:
    import openai

    server.reply({"error": {"message": "no such model", "code": "model_not_found"}}, status=404)
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="m", messages=HELLO)


def run_agents(server: Any, make_model: Callable[[Any], Any], *, streamed: bool = False) -> None:
    import agents
    import openai

    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    agents.set_tracing_disabled(False)
    client = openai.AsyncOpenAI(base_url=server.base_url, api_key="test", max_retries=0)

    async def run() -> None:
        async with client:
            tools: Any = [agents.function_tool(get_weather)]
            agent = agents.Agent(name="Weather", tools=tools, model=make_model(client))
            if not streamed:
                await agents.Runner.run(agent, "weather in Rome?")
                return
            async for _ in agents.Runner.run_streamed(agent, "weather in Rome?").stream_events():
                pass

    import asyncio

    agents.set_trace_processors([])  # none of the SDK's own, which sends everything to OpenAI
    integrations.openai.autolog(disable=True)
    integrations.openai.autolog()
    asyncio.run(run())


@scenario("openai-agents", "openai")
def agents_responses(server: Any) -> None:
    import agents

    server.reply(response(called("get_weather")))
    server.reply(response())
    run_agents(server, lambda client: agents.OpenAIResponsesModel("m", client))


@scenario("openai-agents", "openai")
def agents_stream(server: Any) -> None:
    import agents

    told: Any = {"type": "response.completed", "sequence_number": 0}
    server.stream((told["type"], {**told, "response": response(called("get_weather"))}))
    server.stream((told["type"], {**told, "response": response()}))
    run_agents(server, lambda client: agents.OpenAIResponsesModel("m", client), streamed=True)


@scenario("openai-agents", "openai")
def agents_chat(server: Any) -> None:
    import agents

    server.reply(completion("get_weather"))
    server.reply(completion())
    run_agents(server, lambda client: agents.OpenAIChatCompletionsModel("m", client))


@scenario("anthropic", "anthropic")
def anthropic_message(server: Any) -> None:
    import anthropic

    usage = {"input_tokens": 12, "output_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
    said = {"type": "tool_use", "id": "t-1", "name": "get_weather", "input": {"city": "Rome"}}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1"}
    server.reply({**head, "content": [said], "stop_reason": "tool_use", "usage": usage})
    tool: Any = {"name": "get_weather", "input_schema": {"type": "object"}}
    with anthropic.Anthropic(base_url=server.base_url, api_key="test", max_retries=0) as client:
        client.messages.create(model="m", max_tokens=9, messages=HELLO[1:], system="Be brief.", tools=[tool])


def chat_model(server: Any, **options: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="m", base_url=server.base_url, api_key="test", max_retries=0, **options)  # type: ignore[arg-type]


@scenario("langchain-core", "langchain")
def langchain_chain(server: Any) -> None:
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    server.reply(completion())
    chain = ChatPromptTemplate.from_messages([("user", "weather in {city}?")])
    (chain | chat_model(server, service_tier="flex", temperature=0.5) | StrOutputParser()).invoke({"city": "Rome"})


@scenario("langchain", "langchain")
def langchain_agent(server: Any) -> None:
    from langchain.agents import create_agent

    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    server.reply(completion("get_weather"))
    server.reply(completion())
    agent: Any = create_agent(chat_model(server), tools=[get_weather], name="helper")
    agent.invoke({"messages": HELLO[1:]})


@scenario("langgraph", "langgraph")
def langgraph_graph(_server: Any) -> None:
    from langgraph.graph import END, START, StateGraph

    graph: Any = StateGraph(dict)
    graph.add_node("one", lambda state: state)
    graph.add_edge(START, "one")
    graph.add_edge("one", END)
    graph.compile(name="order").invoke({"x": 1})


@scenario("google-genai", "google_genai")
def google_genai_content(server: Any) -> None:
    from google import genai

    details = [{"modality": "TEXT", "tokenCount": 8}, {"modality": "IMAGE", "tokenCount": 4}]
    usage = {"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 17, "promptTokensDetails": details}
    usage |= {"candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 5}]}
    candidate = {"content": {"role": "model", "parts": [{"text": "sunny"}]}, "index": 0, "finishReason": "STOP"}
    server.reply({"candidates": [candidate], "modelVersion": "m-1", "responseId": "r-1", "usageMetadata": usage})
    options: Any = {"base_url": server.base_url.removesuffix("/v1")}
    client = genai.Client(api_key="test", http_options=options)
    client.models.generate_content(model="m", contents="weather?", config={"temperature": 0.5, "max_output_tokens": 9})
    getattr(client, "close", lambda: None)()  # old versions have none


@scenario("llama-index-core", "llama_index")
def llama_index_chat(server: Any) -> None:
    import openai
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    server.reply(completion())
    ask: Any = {"api_base": server.base_url, "api_key": "test", "max_retries": 0}
    with openai.DefaultHttpxClient() as http:  # the model would leave its own to the collector
        OpenAI(model="gpt-4o-mini", http_client=http, **ask).chat([ChatMessage(role="user", content="weather?")])


@scenario("llama-index-core", "llama_index")
def llama_index_query(_server: Any) -> None:
    from llama_index.core import Document, MockEmbedding, VectorStoreIndex
    from llama_index.core.llms import MockLLM

    shelf = [Document(text="Cats purr.", id_="cats")]
    index = VectorStoreIndex.from_documents(shelf, embed_model=MockEmbedding(embed_dim=8))
    index.as_query_engine(llm=MockLLM(max_tokens=3)).query("cats?")


@scenario("autogen-agentchat", "autogen")
def autogen_agent(server: Any) -> None:
    import asyncio

    from autogen_agentchat.agents import AssistantAgent
    from autogen_kit import MODEL, get_weather, openai_model

    server.reply(completion("get_weather", model=MODEL))
    server.reply(completion(model=MODEL))

    async def run() -> None:
        model = openai_model(server.base_url)
        await AssistantAgent("scout", model, tools=[get_weather], reflect_on_tool_use=True).run(task="weather?")
        await model.close()

    asyncio.run(run())


@pytest.mark.usefixtures("hooked")
@pytest.mark.parametrize("name", [*SCENARIOS])
def test_golden_attributes(name: str, scripted: Any, spans: Spans, started: StartNames) -> None:
    """The names that each span has, those at its start apart: see ``golden_attributes.py`` for how to renew them."""
    library, _, run = SCENARIOS[name]
    run(scripted)
    compare_with_golden(name, library, describe_spans(spans.all, started))
