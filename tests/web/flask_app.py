"""An application on Flask. Its module is imported once, before gunicorn forks its workers (``--preload``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import openai
from flask import Flask, Response, request

from mlspan import integrations, tracing

integrations.openai.autolog()
client = openai.OpenAI()
app = Flask(__name__)


def ask(text: str) -> str:
    answer = client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": text}])
    return str(answer.choices[0].message.content)


ask("warm up")  # in the process that forks
# Its connection would be shared by all workers, who would get each other's answers, with us or without.
client.close()
client = openai.OpenAI()


@app.get("/ping")
def ping() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.post("/chat")
def chat() -> dict[str, Any]:
    with tracing.session(request.args.get("session")):
        return {"answer": ask(request.args["text"]), "pid": os.getpid()}


@app.get("/sse")
def sse() -> Response:
    def read() -> Iterator[str]:
        messages: list[Any] = [{"role": "user", "content": request.args["text"]}]
        with client.chat.completions.create(model="gpt-x", messages=messages, stream=True) as stream:
            for chunk in stream:
                yield f"data: {chunk.choices[0].delta.content}\n\n"

    from flask import stream_with_context

    return Response(stream_with_context(read()), mimetype="text/event-stream")
