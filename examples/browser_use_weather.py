"""An agent that uses a browser, as one trace: its steps, the calls to the model and the actions in the browser.

Needs ``pip install '.[mlflow,browser-use]'`` in a checkout of mlspan, and a Chromium or Chrome, and OPENAI_API_KEY
(OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import asyncio
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from browser_use import Agent, Browser, ChatOpenAI

from mlspan import integrations, tracing

integrations.browser_use.autolog(log_traces=True)
integrations.openai.autolog(log_traces=True)  # adds what the client alone knows: the id of the answer, reasoning tokens

PAGE = b"<!doctype html><title>Weather</title><h1>Weather</h1><p>It is clear over Paris.</p>"


class Site(BaseHTTPRequestHandler):
    """A site of one page, as browser-use opens no files."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None: ...


async def main(url: str) -> None:
    agent = Agent(
        f"Open {url} and say how the weather in Paris is.",
        llm=ChatOpenAI("gpt-4o-mini", base_url=os.environ.get("OPENAI_BASE_URL")),
        browser=Browser(headless=True, enable_default_extensions=False),
        max_failures=2,
    )
    history = await agent.run(max_steps=5)
    print(history.final_result())


if __name__ == "__main__":
    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    with tracing.session("trip-7"):
        asyncio.run(main(f"http://127.0.0.1:{site.server_port}/weather"))
    site.shutdown()
    tracing.flush()
