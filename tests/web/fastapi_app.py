"""An application on FastAPI: calls to a model in its lifespan, in endpoints of both kinds, streamed, and afterwards."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse

from mlspan import integrations, tracing

integrations.openai.autolog()
client, aclient = openai.OpenAI(), openai.AsyncOpenAI()


def ask(text: str) -> str:
    answer = client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": text}])
    return str(answer.choices[0].message.content)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    ask("warm up")
    yield
    ask("good night")
    await aclient.close()
    client.close()


app = FastAPI(lifespan=lifespan)


async def use_session(session: str = "none") -> AsyncIterator[None]:
    """Set the session for the request. A dependency that is not async runs in a thread, whose context is lost."""
    with tracing.session(session):
        yield


@app.get("/ping")
def ping() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.post("/chat", dependencies=[Depends(use_session)])
def chat(text: str) -> dict[str, Any]:
    return {"answer": ask(text), "pid": os.getpid()}


@app.post("/achat")
@tracing.trace(name="answer a question")
async def achat(text: str) -> dict[str, Any]:
    answer = await aclient.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": text}])
    return {"answer": answer.choices[0].message.content}


@app.get("/sse")
async def sse(text: str) -> StreamingResponse:
    async def read() -> AsyncIterator[str]:
        messages: list[Any] = [{"role": "user", "content": text}]
        async with await aclient.chat.completions.create(model="gpt-x", messages=messages, stream=True) as stream:
            async for chunk in stream:
                yield f"data: {chunk.choices[0].delta.content}\n\n"

    return StreamingResponse(read(), media_type="text/event-stream")


@app.post("/later")
def later(text: str, tasks: BackgroundTasks) -> dict[str, str]:
    tasks.add_task(ask, text)
    return {"answer": "later"}
