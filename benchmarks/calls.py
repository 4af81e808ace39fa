"""What tracing adds to a call, as ratios within one run: to the bare client, and to a span written by hand.

The network is a transport that answers at once. Each figure is the median over many calls, the variants interleaved, so
that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import httpx2
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from mlspan import integrations, tracing

CALLS = 600
CHUNKS = 200
MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the weather?"}]
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-mini"}
ANSWER = {"role": "assistant", "content": "Sunny, 21 degrees."}
CHOICE = {"index": 0, "finish_reason": "stop", "message": ANSWER}
WHOLE = {**HEAD, "object": "chat.completion", "usage": USAGE, "choices": [CHOICE]}
CHUNK = {**HEAD, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "word "}}]}
BODY = json.dumps(WHOLE).encode()
EVENTS = (f"data: {json.dumps(CHUNK)}\n\n" * CHUNKS + "data: [DONE]\n\n").encode()


def answer(request: httpx2.Request) -> httpx2.Response:
    if json.loads(request.content).get("stream"):
        return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=EVENTS)
    return httpx2.Response(200, headers={"Content-Type": "application/json"}, content=BODY)


def by_hand(client: openai.OpenAI, tracer: trace.Tracer) -> None:
    """The floor: the same attributes on a span that somebody has written around the call."""
    with tracer.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT) as span:
        got = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, temperature=0.0)
        asked = [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in MESSAGES]
        choice = got.choices[0]
        said = {"role": "assistant", "parts": [{"type": "text", "content": choice.message.content}]}
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.provider.name", "openai")
        span.set_attribute("gen_ai.request.model", "gpt-4o-mini")
        span.set_attribute("gen_ai.request.temperature", 0.0)
        span.set_attribute("server.address", "127.0.0.1")
        span.set_attribute("server.port", 80)
        span.set_attribute("openai.api.type", "chat_completions")
        span.set_attribute("gen_ai.response.id", got.id)
        span.set_attribute("gen_ai.response.model", got.model)
        span.set_attribute("gen_ai.response.finish_reasons", [choice.finish_reason])
        span.set_attribute("gen_ai.usage.input_tokens", got.usage.prompt_tokens if got.usage else 0)
        span.set_attribute("gen_ai.usage.output_tokens", got.usage.completion_tokens if got.usage else 0)
        span.set_attribute("gen_ai.input.messages", json.dumps(asked))
        span.set_attribute("gen_ai.output.messages", json.dumps([{**said, "finish_reason": choice.finish_reason}]))


class Bare(openai.OpenAI):
    """A client that nobody watches: it has the original of the method that mlspan patches on its parent."""

    request = openai.OpenAI.request


def call(client: openai.OpenAI) -> None:
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, temperature=0.0)


def stream(client: openai.OpenAI) -> None:
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True):
        pass


def medians(variants: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Microseconds of each, over *rounds* in which every variant takes its turn."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            started = perf_counter()
            run()
            times[name].append(perf_counter() - started)
    return {name: statistics.median(taken) * 1e6 for name, taken in times.items()}


def main() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor())  # takes spans and does nothing: exporting is measured elsewhere
    trace.set_tracer_provider(provider)
    tracer = provider.get_tracer("by-hand")
    transport = httpx2.MockTransport(answer)
    options: Any = {
        "base_url": "http://127.0.0.1/v1",
        "api_key": "x",
        "http_client": httpx2.Client(transport=transport),
    }
    bare, ours = Bare(**options), openai.OpenAI(**options)
    tracing.configure(tracking_uri="none")
    integrations.openai.autolog()

    variants = {"bare": lambda: call(bare), "hand": lambda: by_hand(bare, tracer), "mlspan": lambda: call(ours)}
    medians(variants, 50)
    chat = medians(variants, CALLS)
    floor, added = chat["hand"] - chat["bare"], chat["mlspan"] - chat["bare"]
    print(f"| chat call, bare client | {chat['bare']:.0f} us | |")
    print(f"| span written by hand: added | {floor:.0f} us | 1.0 |")
    print(f"| mlspan: added | {added:.0f} us | {added / floor:.2f} |")

    streams = medians({"bare": lambda: stream(bare), "mlspan": lambda: stream(ours)}, CALLS // 4)
    chunk = (streams["mlspan"] - streams["bare"] - added) / CHUNKS
    print(f"| mlspan: added by each chunk of a stream | {chunk:.2f} us | {chunk / floor:.3f} |")

    tracing.configure(tracking_uri="none", capture_content=False)
    off = medians({"bare": lambda: call(bare), "mlspan": lambda: call(ours)}, CALLS)
    quiet = off["mlspan"] - off["bare"]
    print(f"| mlspan, content off: added | {quiet:.0f} us | {quiet / floor:.2f} |")

    integrations.openai.autolog(log_traces=False)
    off = medians({"bare": lambda: call(bare), "mlspan": lambda: call(ours)}, CALLS)
    idle = off["mlspan"] - off["bare"]
    print(f"| mlspan, log_traces=False: added | {idle:.1f} us | {idle / floor:.2f} |")


if __name__ == "__main__":
    main()
