"""browser-use's agents on a page of the test's own, in a real Chromium, as the tests want them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

os.environ.update(
    ANONYMIZED_TELEMETRY="false",
    BROWSER_USE_CLOUD_SYNC="false",
    BROWSER_USE_SETUP_LOGGING="false",
    BROWSER_USE_CONFIG_DIR=tempfile.mkdtemp(prefix="mlspan-browser-use-"),
    BROWSER_USE_VERSION_CHECK="false",
    SKIP_LLM_API_KEY_VERIFICATION="true",
)
pytest.importorskip("browser_use", reason="in the nox session browser_use")

from browser_use import Agent, BrowserProfile, BrowserSession, ChatOpenAI
from openai_answers import answer
from servers.process import BoundedPopen

CHROMIUM: Final = shutil.which("chromium")
WAIT: Final = 120.0  # seconds, the most that a run may take
PAGE: Final = b"""<!doctype html><title>Weather</title><h1>Weather</h1>
<label>City <input id="city" name="city"></label><button onclick="document.title='Clear'">Look</button>
<p>It is clear over Paris.</p>"""
TOLD: Final = {"evaluation_previous_goal": "Success", "memory": "On the way.", "next_goal": "Look at the page."}


def act(*actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An answer of the model that tells these *actions*."""
    return answer(json.dumps({**TOLD, "action": [*actions]}), **more)


def finish(text: str = "It is clear.", *, success: bool = True) -> dict[str, Any]:
    """An answer of the model that ends the run."""
    return act({"done": {"text": text, "success": success}})


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def serve_pages() -> Iterator[str]:
    """Serve the page, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/weather"
    server.shutdown()
    server.server_close()
    thread.join(10)


def make_model(server: Any, **options: Any) -> ChatOpenAI:
    return ChatOpenAI("m", base_url=server.base_url, api_key="test", max_retries=0, **options)


@contextmanager
def start_chromium() -> Iterator[str]:
    """Start a Chromium for all agents of a test file, and yield the address at which they connect to it."""
    with tempfile.TemporaryDirectory(prefix="mlspan-chromium-", ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        where = ["--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        command = [str(CHROMIUM), *options, "--disable-component-update", "--disable-sync", *where]
        process = BoundedPopen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        told = next(line for line in process.stderr if "DevTools listening on" in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield f"http://{urlsplit(told.split()[-1]).netloc}"
        finally:
            process.terminate()
            process.wait(30)


started: list[str] = []  # the address of the Chromium that runs


def make_browser(**options: Any) -> BrowserSession:
    """Return a session with the Chromium that runs; it is not connected yet."""
    profile = BrowserProfile(
        cdp_url=started[-1],
        minimum_wait_page_load_time=0,
        wait_for_network_idle_page_load_time=0,
        wait_between_actions=0,
        **options,
    )
    return BrowserSession(browser_profile=profile)


def make_agent(server: Any, task: str = "How is the weather?", **options: Any) -> Agent[Any, Any]:
    """Return an agent with a browser of its own, which its run closes."""
    how: dict[str, Any] = {"use_vision": False, "use_judge": False, "enable_signal_handler": False, **options}
    model, browser = how.pop("llm", None) or make_model(server), how.pop("browser", None) or make_browser()
    return Agent(task, llm=model, browser=browser, file_system_path=tempfile.mkdtemp(), **how)


def run(agent: Agent[Any, Any], **options: Any) -> Any:
    """Run an agent to its end, and return its history."""
    return asyncio.run(asyncio.wait_for(agent.run(**options), WAIT))
