"""An agent that uses a browser, as one trace: its steps, the calls to the model and the actions in the browser.

Needs ``pip install browser-use``, a Chromium or Chrome, and OPENAI_API_KEY (OPENAI_BASE_URL for a compatible server).
Look at the trace with ``mlflow ui``.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from browser_use import Agent, Browser, ChatOpenAI

from mlspan import integrations, tracing

integrations.browser_use.autolog(log_traces=True)
integrations.openai.autolog(log_traces=True)  # adds what the client alone knows: the id of the answer, reasoning tokens

PAGE = "<!doctype html><title>Weather</title><h1>Weather</h1><p>It is clear over Paris.</p>"


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "weather.html"
        page.write_text(PAGE, encoding="utf-8")
        agent = Agent(
            f"Open {page.as_uri()} and say how the weather in Paris is.",
            llm=ChatOpenAI("gpt-4o-mini", base_url=os.environ.get("OPENAI_BASE_URL")),
            browser=Browser(headless=True, enable_default_extensions=False),
            max_failures=2,
        )
        history = await agent.run(max_steps=5)
        print(history.final_result())


if __name__ == "__main__":
    with tracing.session("trip-7"):
        asyncio.run(main())
    tracing.flush()
