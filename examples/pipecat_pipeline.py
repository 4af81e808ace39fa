"""A pipeline of Pipecat with text and a function: its own spans, with the client's below, in one trace.

Needs ``pip install '.[mlflow,pipecat,openai]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for
another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

import asyncio

from pipecat.frames.frames import EndFrame, LLMMessagesAppendFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.workers.runner import WorkerRunner

from mlspan import integrations

integrations.pipecat.autolog()
integrations.openai.autolog()


async def get_weather(params: FunctionCallParams, city: str) -> None:
    """The weather in a city."""
    await params.result_callback(f"sunny in {city}")


async def main() -> None:
    model = OpenAILLMService(settings=OpenAILLMService.Settings(model="gpt-4o-mini"))
    pair = LLMContextAggregatorPair(LLMContext(tools=[get_weather]))
    worker = PipelineWorker(Pipeline([pair.user(), model, pair.assistant()]), conversation_id="a conversation")
    runner = WorkerRunner(handle_sigint=False)
    question = {"role": "user", "content": "How is the sky over Paris?"}

    @pair.assistant().event_handler("on_assistant_turn_stopped")
    async def on_assistant_turn_stopped(_: object, message: object) -> None:
        if message.content:
            print(message.content)
            await worker.queue_frame(EndFrame())

    await runner.add_workers(worker)
    await worker.queue_frame(LLMMessagesAppendFrame([question], run_llm=True))
    await runner.run()


asyncio.run(main())
