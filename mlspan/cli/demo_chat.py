"""The chat of ``mlspan demo``: a model, or canned answers, is asked, and calls a tool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import openai
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from .. import integrations, tracing
from ..tracing import runtime
from ..tracing.operations.call_context import TraceOrigin
from . import canned
from .common import CommandFailure

DEMO_QUESTION: Final = "What is the weather in Paris?"
DEMO_MODEL: Final = "gpt-4o-mini"
LABELS: Final = TraceOrigin(session="demo", user="ada")
_WEATHER_TOOLS: Final[object] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


class _Recorder(SpanProcessor):
    """Keeps the spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def record_chat(base: str | None, key: str | None) -> list[ReadableSpan]:
    """Run the chat with tracing on, and return its spans, the root last.

    It asks the server at *base*, or OpenAI with *key*; without both, a server with canned answers. MLflow gets nothing
    yet, as importing it takes seconds.

    Raises:
        CommandFailure: if the model does not answer, or the settings leave no span.
    """
    recorder = _Recorder()
    with _connect_model(base, key) as client:
        tracing.configure(tracking_uri="none")
        remove_listener = runtime.add_listener(recorder)
        try:
            integrations.openai.autolog(include_usage=True)
            with tracing.session(str(LABELS.session)), tracing.user(str(LABELS.user)):
                _ask_question(client)
        finally:
            integrations.openai.autolog(disable=True)
            tracing.shutdown(10)
            remove_listener()
    if not recorder.spans:
        raise CommandFailure("the settings here record no spans; to find out why, run: mlspan doctor")
    return recorder.spans


def _ask_question(client: Any) -> None:
    """Ask the question, call the tool that the model asks for, and read the answer as a stream."""

    @tracing.trace(name="get_weather", kind="tool")
    def get_weather(city: str) -> str:
        return f"sunny in {city}, 21 degrees"

    with tracing.span("weather assistant", kind="agent", input=DEMO_QUESTION) as agent:
        messages: Any = [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": DEMO_QUESTION},
        ]
        reply = (
            client.chat.completions.create(model=DEMO_MODEL, messages=messages, tools=_WEATHER_TOOLS).choices[0].message
        )
        messages.append(reply)
        for call in reply.tool_calls or []:
            result = get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        parts = client.chat.completions.create(model=DEMO_MODEL, messages=messages, stream=True)
        agent.output = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)


@contextmanager
def _connect_model(base: str | None, key: str | None) -> Iterator[openai.OpenAI]:
    """Yield a client of the server at *base*, of OpenAI, or of a server with canned answers.

    Raises:
        CommandFailure: if a request to the model fails.
    """
    with ExitStack() as stack:
        url = None if key or base else stack.enter_context(canned.serve_canned_answers())
        client = stack.enter_context(openai.OpenAI(base_url=base or url, api_key=key or "none"))
        try:
            yield client
        except openai.OpenAIError as error:
            raise CommandFailure(
                f"the model did not answer ({type(error).__name__}): {str(error).splitlines()[0]}"
            ) from error
