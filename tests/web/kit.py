"""What the tests of web applications share: a model server, web servers, and what is stored."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from servers.process import BoundedPopen, free_port
from servers.scripted import Scripted

HERE = Path(__file__).parent


def answer_by_request(server: Scripted, *, delay: float = 0.02, chunks: int = 5) -> None:
    """Answer each request in its own way: a whole answer, or a stream of *chunks* with *delay* seconds between them."""
    common = {"id": "chatcmpl-1", "created": 1, "model": "gpt-x"}
    message = {"role": "assistant", "content": "Hi there!"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    whole = {**common, "object": "chat.completion", "usage": usage}
    server.reply({**whole, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
    reply = server._answers.pop()
    delta = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}
    server.stream(*[{**common, "object": "chat.completion.chunk", "choices": [delta]}] * chunks, "[DONE]", delay=delay)
    stream = server._answers.pop()

    def answer(handler: Any) -> None:
        body = server.requests[-1][1]
        (stream if body.get("stream") else reply)(handler)

    server._answers.append(answer)


def make_environment(store: str, model_server: Scripted) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    ours = {"MLFLOW_TRACKING_URI": store, "MLSPAN_STRICT": "1", "PYTHONPATH": str(HERE), "PYTHONWARNINGS": "ignore"}
    return {**kept, **ours, "OPENAI_BASE_URL": model_server.base_url, "OPENAI_API_KEY": "x"}


class Server:
    """A web server that runs; :attr:`stderr` is what it has written once the block has ended."""

    def __init__(self, port: int, process: BoundedPopen, log: Path) -> None:
        self.port, self.process, self._log = port, process, log

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    def request(self, method: str, path: str, **query: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, f"{path}?{urllib.parse.urlencode(query)}")
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, (response.status, body, self.stderr)
            return json.loads(body) if "json" in response.headers.get("content-type", "") else body.decode()
        finally:
            connection.close()

    def cut_off(self, path: str, **query: str) -> bytes:
        """Read the beginning of an answer and hang up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as link:
            link.sendall(f"GET {path}?{urllib.parse.urlencode(query)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            read = b""
            while b"data:" not in read and (more := link.recv(4096)):
                read += more
            return read


@contextmanager
def serve(command: list[str], env: dict[str, str], log: Path) -> Iterator[Server]:
    """Run a web server: ``PORT`` in *command* is its port. It is told to stop at the end of the block.

    A worker that has sent nothing yet imports MLflow for that, which takes a while.
    """
    port = free_port()
    arguments = [sys.executable, "-m", *(part.replace("PORT", str(port)) for part in command)]
    with log.open("wb") as out:
        process = BoundedPopen(arguments, env=env, stdout=subprocess.DEVNULL, stderr=out, start_new_session=True)
    server = Server(port, process, log)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            raise


def _wait_until_ready(server: Server) -> None:
    for _ in range(600):
        if server.process.poll() is not None:
            break
        try:
            server.request("GET", "/ping")
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"{server.process.args} does not answer:\n{server.stderr[-3000:]}")


def wait_until_stored(store: str, number: int) -> None:
    """Wait until MLflow's database has so many traces, for two minutes at most: workers import MLflow for that."""
    for _ in range(1200):
        with closing(sqlite3.connect(store.removeprefix("sqlite:///"), timeout=30)) as database:
            if database.execute("SELECT count(*) FROM trace_info").fetchone()[0] >= number:
                return
        time.sleep(0.1)


def read_traces(store: str) -> list[Any]:
    import mlflow

    mlflow.set_tracking_uri(store)
    try:
        return list(mlflow.search_traces(locations=["0"], return_type="list", max_results=500))
    finally:
        mlflow.set_tracking_uri(None)


def count_questions(traces: list[Any]) -> Counter[str]:
    """Return how often each question was put to the model, by the spans of its calls."""
    spans = [span for each in traces for span in each.data.spans if span.name == "chat gpt-x"]
    return Counter(json.dumps(span.inputs)[-400:].rpartition('"content": "')[2].partition('"')[0] for span in spans)


def count_requests(model_server: Scripted) -> Counter[str]:
    """Return how often each question was asked; what the client sends again, as it does under load, counts once."""
    first = [body for headers, body in model_server.requests if headers.get("x-stainless-retry-count", "0") == "0"]
    return Counter(str(body["messages"][-1]["content"]) for body in first)
