"""An application on Django's ASGI: views of both kinds, one of them a stream."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import django
import openai
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path

from mlspan import integrations, tracing

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=False)
django.setup()
integrations.openai.autolog()
client, aclient = openai.OpenAI(), openai.AsyncOpenAI()


def make_question(text: str) -> Any:
    return {"model": "gpt-x", "messages": [{"role": "user", "content": text}]}


def ping(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"pid": os.getpid()})


def chat(request: HttpRequest) -> JsonResponse:
    with tracing.session(request.GET["session"]), tracing.span("GET /chat"):
        answer = client.chat.completions.create(**make_question(request.GET["text"]))
    return JsonResponse({"answer": answer.choices[0].message.content, "pid": os.getpid()})


async def achat(request: HttpRequest) -> JsonResponse:
    with tracing.session(request.GET["session"]):
        answer = await aclient.chat.completions.create(**make_question(request.GET["text"]))
    return JsonResponse({"answer": answer.choices[0].message.content})


async def sse(request: HttpRequest) -> StreamingHttpResponse:
    async def read() -> AsyncIterator[str]:
        asked = aclient.chat.completions.create(**make_question(request.GET["text"]), stream=True)
        async with await asked as stream:
            async for chunk in stream:
                yield f"data: {chunk.choices[0].delta.content}\n\n"

    return StreamingHttpResponse(read(), content_type="text/event-stream")


urlpatterns = [path(view.__name__, view) for view in (ping, chat, achat, sse)]
application = get_asgi_application()
