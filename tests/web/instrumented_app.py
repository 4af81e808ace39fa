"""An application on FastAPI that OpenTelemetry's own instrumentation of FastAPI traces too.

``ORDER`` says in which order what is turned on: ``ours``, ``provider`` (the application's), ``app`` (FastAPI's
instrumentation, of this application), ``class`` (of all that are made later), ``global`` (our provider for everybody).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import openai
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mlspan import integrations, tracing

seen = InMemorySpanExporter()


def set_provider() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(seen))
    trace.set_tracer_provider(provider)


def turn_on(what: str) -> None:
    steps: dict[str, Any] = {
        "ours": integrations.openai.autolog,
        "global": lambda: tracing.configure(global_provider=True),
        "provider": set_provider,
        "app": lambda: FastAPIInstrumentor.instrument_app(app),
        "class": lambda: FastAPIInstrumentor().instrument(),
    }
    steps[what]()


before, _, after = os.environ["ORDER"].partition(" | ")  # what comes before the application is made, and after
for each in before.split():
    turn_on(each)
app = FastAPI()


def ask(text: str) -> str:
    with openai.OpenAI() as client:
        answer = client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": text}])
    return str(answer.choices[0].message.content)


@app.get("/ping")
def ping() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.post("/chat/{room}")
def chat(room: int, text: str, session: str = "none") -> dict[str, Any]:
    with tracing.session(session):
        return {"answer": ask(text), "room": room}


@app.post("/achat/{room}")
async def achat(room: int, text: str, session: str = "none") -> dict[str, Any]:
    with tracing.session(session):
        async with openai.AsyncOpenAI() as client:
            answer = await client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": text}])
    return {"answer": answer.choices[0].message.content, "room": room}


@app.get("/sse/{room}")
async def sse(room: int, text: str) -> StreamingResponse:
    async def read() -> AsyncIterator[str]:
        messages: list[Any] = [{"role": "user", "content": text}]
        async with (
            openai.AsyncOpenAI() as client,
            await client.chat.completions.create(model="gpt-x", messages=messages, stream=True) as stream,
        ):
            async for chunk in stream:
                yield f"data: {room} {chunk.choices[0].delta.content}\n\n"

    return StreamingResponse(read(), media_type="text/event-stream")


@app.get("/fails/{room}")
def fails(room: int, text: str) -> dict[str, Any]:
    raise ValueError(f"{room}: {ask(text)}")


@app.get("/spans")
def spans() -> list[list[str]]:
    """Return the spans that the application's provider has exported: name, and name of the parent."""
    found = {one.context.span_id: one for one in seen.get_finished_spans()}
    return [
        [one.name, found[one.parent.span_id].name if one.parent and one.parent.span_id in found else ""]
        for one in found.values()
    ]


for each in after.split():
    turn_on(each)
