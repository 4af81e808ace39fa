"""An agent of Semantic Kernel, with a function: its own spans, with the client's messages below, in one trace.

Needs ``pip install '.[mlflow,semantic-kernel,openai]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL
for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

import asyncio

from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function

from mlspan import integrations, tracing

integrations.semantic_kernel.autolog()
integrations.openai.autolog()


class Weather:
    """The functions that the agent may call."""

    @kernel_function
    def get_weather(self, city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"


async def main() -> None:
    model = OpenAIChatCompletion(ai_model_id="gpt-4o-mini")
    agent = ChatCompletionAgent(service=model, name="weather", plugins=[Weather()])
    with tracing.session("a conversation"):
        print(await agent.get_response("How is the sky over Paris?"))


if __name__ == "__main__":
    asyncio.run(main())
    tracing.flush()
