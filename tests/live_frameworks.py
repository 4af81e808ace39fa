"""Frameworks that trace themselves, with our hook of the client below them: ``python live_frameworks.py NAME WAY``.

The way is ``joined``, by our integration of the framework, or ``global``, by a global TracerProvider and the
framework's own switch.
"""

import asyncio
import sys

from mlspan import integrations, tracing

NAME, WAY = sys.argv[1:]
QUESTION = "How is the sky over Paris?"


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def run_pydantic_ai() -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel

    if WAY == "global":
        Agent.instrument_all()
    Agent(OpenAIChatModel("gpt-4o-mini"), name="weather", tools=[get_weather]).run_sync(QUESTION)


def run_strands() -> None:
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel

    Agent(model=OpenAIModel(model_id="gpt-4o-mini"), tools=[tool(get_weather)], callback_handler=None)(QUESTION)


def run_agent_framework() -> None:
    from agent_framework import Agent
    from agent_framework.observability import enable_instrumentation
    from agent_framework.openai import OpenAIChatCompletionClient

    if WAY == "global":
        enable_instrumentation(enable_sensitive_data=True)
    agent = Agent(client=OpenAIChatCompletionClient(model="gpt-4o-mini"), name="weather", tools=[get_weather])
    asyncio.run(agent.run(QUESTION))


def run_semantic_kernel() -> None:
    from semantic_kernel.agents import ChatCompletionAgent
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion

    agent = ChatCompletionAgent(service=OpenAIChatCompletion(ai_model_id="gpt-4o-mini"), name="weather")
    asyncio.run(agent.get_response(messages="hello"))


def run_google_adk() -> None:
    from google.adk.agents import Agent
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    runner = InMemoryRunner(agent=Agent(name="weather", model="gemini-2.5-flash", tools=[get_weather]), app_name="app")

    async def run() -> None:
        session = await runner.session_service.create_session(app_name="app", user_id="u")
        message = types.Content(role="user", parts=[types.Part(text=QUESTION)])
        async for _ in runner.run_async(user_id="u", session_id=session.id, new_message=message):
            pass

    asyncio.run(run())


async def ask_weather(city: str) -> str:
    """The weather in a city."""
    return get_weather(city)


def run_livekit() -> None:
    from livekit.agents import Agent, AgentSession, function_tool
    from livekit.plugins.openai import LLM

    tool = function_tool(ask_weather, name="get_weather")

    async def run() -> None:
        async with LLM(model="gpt-4o-mini") as model, AgentSession(llm=model) as session:
            await session.start(Agent(instructions="Be brief.", tools=[tool]))
            await session.run(user_input=QUESTION)

    asyncio.run(run())


def run_pipecat() -> None:
    from pipecat.frames.frames import EndFrame, LLMMessagesAppendFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
    from pipecat.services.llm_service import FunctionCallParams
    from pipecat.services.openai.llm import OpenAILLMService
    from pipecat.workers.runner import WorkerRunner

    async def ask(params: FunctionCallParams, city: str) -> None:
        """The weather in a city."""
        await params.result_callback(get_weather(city))

    ask.__name__ = "get_weather"

    async def run() -> None:
        model = OpenAILLMService(
            settings=OpenAILLMService.Settings(model="gpt-4o-mini", system_instruction="Be brief.")
        )
        pair = LLMContextAggregatorPair(LLMContext(tools=[ask]))
        on = {"enable_tracing": True} if WAY == "global" else {}
        worker = PipelineWorker(Pipeline([pair.user(), model, pair.assistant()]), conversation_id="chat-42", **on)
        runner, answered = WorkerRunner(handle_sigint=False), asyncio.Event()

        @pair.assistant().event_handler("on_assistant_turn_stopped")
        async def on_assistant_turn_stopped(_: object, message: object) -> None:
            if message.content:
                answered.set()

        await runner.add_workers(worker)
        running = asyncio.create_task(runner.run())
        await worker.queue_frame(LLMMessagesAppendFrame([{"role": "user", "content": QUESTION}], run_llm=True))
        await asyncio.wait_for(answered.wait(), 60)
        await worker.queue_frame(EndFrame())
        await running

    asyncio.run(run())


if __name__ == "__main__":
    if WAY == "global":
        tracing.configure(global_provider=True)
    else:
        getattr(integrations, NAME).autolog(log_traces=True)
    integrations.openai.autolog(log_traces=True)
    if NAME == "google_adk":
        integrations.google_genai.autolog(log_traces=True)
    {
        "pydantic_ai": run_pydantic_ai,
        "strands": run_strands,
        "agent_framework": run_agent_framework,
        "semantic_kernel": run_semantic_kernel,
        "google_adk": run_google_adk,
        "livekit": run_livekit,
        "pipecat": run_pipecat,
    }[NAME]()
    assert tracing.flush(60)
