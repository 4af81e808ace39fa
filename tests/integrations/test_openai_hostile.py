"""Shapes that no well-behaved program sends or receives: the caller's result is what it is without us."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
from typing import Any

import openai
import pytest

from mlspan import integrations
from mlspan.testing import Spans

pytestmark = pytest.mark.usefixtures("openai_on")

HELLO: Any = [{"role": "user", "content": "hello"}]
NOTHING: Any = getattr(openai, "omit", None) or openai.NOT_GIVEN
MESSAGE = {"role": "assistant", "content": "Hi."}


def completion(**more: Any) -> dict[str, Any]:
    head = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    return {**head, "choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}], "usage": usage, **more}


def asked_of(call: dict[str, Any]) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": HELLO, **call}


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"city": '}}
ANSWERS: dict[str, dict[str, Any]] = {
    "usage null": completion(usage=None),
    "usage missing": {k: v for k, v in completion().items() if k != "usage"},
    "usage of odd types": completion(usage={"prompt_tokens": "12", "completion_tokens": [5], "total_tokens": None}),
    "usage beyond 64 bits": completion(usage={"prompt_tokens": 2**70, "completion_tokens": 5, "total_tokens": 0}),
    "no choices": completion(choices=[]),
    "choices null": completion(choices=None),
    "message null": completion(choices=[{"index": 0, "finish_reason": "stop", "message": None}]),
    "finish reason null": completion(choices=[{"index": None, "finish_reason": None, "message": MESSAGE}]),
    "arguments that are no JSON": completion(
        choices=[{"index": 0, "finish_reason": "tool_calls", "message": {**MESSAGE, "tool_calls": [CALL]}}]
    ),
    "ids of odd types": completion(id=7, model=None, system_fingerprint={}, service_tier=3),
    "a lone surrogate": completion(
        choices=[{"index": 0, "finish_reason": "stop", "message": {**MESSAGE, "content": "\ud800"}}]
    ),
}
CALLS: dict[str, dict[str, Any]] = {
    "sentinels": {"temperature": NOTHING, "tools": NOTHING, "stop": NOTHING, "n": NOTHING},
    "unknown parts": {
        "messages": [{"role": "user", "content": [{"type": "hologram", "beam": 1}, {"type": "text"}, {}]}]
    },
    "500 messages and 60 tools": {
        "messages": HELLO * 500,
        "tools": [{"type": "function", "function": {"name": f"f{n}", "parameters": {}}} for n in range(60)],
    },
    "a picture of 20 MB": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 20_000_000}"}}],
            }
        ]
    },
    "integers beyond 64 bits": {"seed": 2**70, "extra_body": {"top_k": 2**65}},
    "a lone surrogate": {"messages": [{"role": "user", "content": "\udfff"}]},
    "a tool without parameters": {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function"}]},
    "messages that are a generator": {"messages": (message for message in HELLO)},
}


def describe_result(client: openai.OpenAI, call: dict[str, Any]) -> str:
    """What the caller gets, or how it fails."""
    try:
        return json.dumps(client.chat.completions.create(**asked_of(call)).model_dump(), default=str)
    except Exception as error:
        return repr(type(error))


@pytest.mark.parametrize("name", [*ANSWERS, *CALLS])
def test_the_callers_result_is_what_it_is_without_us(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One span with its core attributes, the same result, and not a word in the log."""
    scripted.reply(ANSWERS.get(name, completion()))
    call = CALLS.get(name, {})
    if name == "messages that are a generator":
        results = [describe_result(scripted_client, {"messages": iter(HELLO)})]
    else:
        results = [describe_result(scripted_client, call)]
    integrations.openai.autolog(disable=True)
    results.append(describe_result(scripted_client, {"messages": iter(HELLO)} if "generator" in name else call))
    assert results[0] == results[1]
    attributes = spans.one().attributes or {}
    assert attributes["gen_ai.request.model"] == "gpt-4o-mini"
    if name in CALLS and "error.type" not in attributes:
        assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (12, 5)
    assert [record for record in caplog.records if record.levelno > logging.DEBUG and record.name == "mlspan"] == []


def test_what_is_sent_beside_the_body_is_never_recorded(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans
) -> None:
    """Headers and query carry secrets: not one byte of them is in a span."""
    scripted.reply(completion())
    scripted_client.chat.completions.create(
        model="gpt-4o-mini",
        messages=HELLO,
        extra_headers={"Authorization": "Bearer canary-1", "X-Key": "canary-2"},
        extra_query={"token": "canary-3"},
    )
    assert "canary" not in str(spans.one().to_json())
    assert scripted.requests[0][0]["x-key"] == "canary-2"


def test_what_is_patched_can_be_copied_pickled_and_inspected(scripted_client: openai.OpenAI, scripted: Any) -> None:
    """Functions, methods and clients that we watch do all that the originals do."""
    for cls in (openai.OpenAI, openai.AsyncOpenAI):
        assert pickle.loads(pickle.dumps(cls.request)) is cls.request
        assert copy.deepcopy(cls.request) is cls.request
        assert [*inspect.signature(cls.request).parameters][:3] == ["self", "cast_to", "options"]
    scripted.reply(completion())
    again = copy.copy(scripted_client).with_options(timeout=5)
    assert again.chat.completions.create(model="gpt-4o-mini", messages=HELLO).choices[0].message.content == "Hi."


@pytest.mark.parametrize("delta", [None, {}, {"content": None}, {"tool_calls": [{"index": None, "function": None}]}, 7])
@pytest.mark.any_span
def test_odd_deltas(scripted_client: openai.OpenAI, scripted: Any, spans: Spans, delta: Any) -> None:
    """A stream of odd chunks reaches the caller chunk by chunk."""
    chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunk["choices"] = [{"index": 0, "delta": delta, "finish_reason": None}]
    scripted.stream(chunk, chunk, "[DONE]")
    assert len(list(scripted_client.chat.completions.create(model="m", messages=HELLO, stream=True))) == 2
    assert (spans.one().attributes or {})["gen_ai.response.id"] == "c-1"
