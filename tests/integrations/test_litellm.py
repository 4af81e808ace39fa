"""LiteLLM: calls, streams, and what its answers hide, against a server that a test scripts."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, ClassVar

import openai
import pytest
from litellm_kit import litellm
from openai_chunks import ANSWER, HELLO, REFUSAL, USAGE, WHOLE, chunk
from scripted_client import ScriptedAsyncCalls, ScriptedAsyncStreams, ScriptedCalls, ScriptedClient, ScriptedStreams
from test_text_chunks import LITELLM_READING, check_both_ways

from mlspan import integrations
from mlspan.testing import Spans, content, contracts
from mlspan.tracing.operations import semconv as sc

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # LiteLLM's own
STREAM = litellm.CustomStreamWrapper


class LiteLLM(ScriptedClient):
    """The functions of the module, their hook and a server."""

    answer, refusal, events = ANSWER, REFUSAL, WHOLE
    function: ClassVar[str] = "completion"

    def make_client(self) -> Any:
        return litellm

    make_async_client = make_client

    def release_client(self) -> None:
        pass

    def ask(self, client: Any, **more: Any) -> Any:
        asked = {"api_base": self.server.base_url, "api_key": "test", "max_retries": 0}
        options = {"stream_options": {"include_usage": True}} if more.get("stream") else {}
        return getattr(client, self.function)(model="openai/m", messages=HELLO, **asked, **options, **more)

    def autolog(self, **options: Any) -> None:
        integrations.litellm.autolog(**options)

    def list_targets(self) -> list[tuple[Any, str]]:
        return [(litellm, self.function), (litellm.main, self.function)]

    def read_chunk(self, chunk: Any) -> Any:
        return chunk.model_dump() | {"id": None, "created": None, "obfuscation": None}

    def read_answer(self, answer: Any) -> Any:
        return answer.model_dump() | {"created": None}


class TestCalls(LiteLLM, ScriptedCalls, contracts.CallContract):
    fails = litellm.BadRequestError


class TestAsyncCalls(LiteLLM, ScriptedAsyncCalls, contracts.AsyncCallContract):
    fails = litellm.BadRequestError
    function = "acompletion"


can_close = pytest.mark.skipif(not hasattr(STREAM, "close"), reason="older versions have streams without an end")


@can_close
class TestStreams(LiteLLM, ScriptedStreams, contracts.StreamContract):
    stream_type = STREAM
    has_http_response = False


@can_close
class TestAsyncStreams(LiteLLM, ScriptedAsyncStreams, contracts.AsyncStreamContract):
    stream_type = STREAM
    has_http_response = False
    function = "acompletion"


def read_attributes(spans: Spans, name: str | None = None) -> dict[str, Any]:
    span = spans.one() if name is None else spans.named(name)[-1]
    return dict(span.attributes or {})


def read_messages(spans: Spans) -> Any:
    return content(spans.one(), "gen_ai.output.messages")


@pytest.mark.parametrize("end", ["", "abandoned"])
def test_ends_of_a_stream_of_any_version(end: str, litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    litellm_server.stream(*WHOLE)
    asked = {"model": "openai/m", "stream": True, "stream_options": {"include_usage": True}, **litellm_where}
    for _ in litellm.completion(messages=HELLO, **asked):
        if end:
            break
    gc.collect()
    assert spans.tree() == f"chat m [{'stream abandoned' if end else '12 in, 5 out'}]"


def test_a_request_by_position(litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    """Model and messages may be passed by position; a prefix names the provider, and is no part of the model."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Paris"}'}}
    message = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    details = {
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    litellm_server.reply({**ANSWER, "choices": [choice], "usage": {**USAGE, **details}})
    litellm.completion("deepseek/m", HELLO, temperature=0.5, stop=["end"], **litellm_where)
    got = read_attributes(spans)
    assert (spans.one().name, got["gen_ai.provider.name"], got["server.address"]) == ("chat m", "deepseek", "127.0.0.1")
    assert (got["gen_ai.request.temperature"], got["gen_ai.request.stop_sequences"]) == (0.5, ("end",))
    assert (got["gen_ai.usage.cache_read.input_tokens"], got["gen_ai.usage.reasoning.output_tokens"]) == (4, 3)
    (said,) = read_messages(spans)
    assert said["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"city": "Paris"}},
    ]


CLAUDE: Any = {"id": "msg", "type": "message", "role": "assistant", "model": "claude-x"}
CLAUDE_USAGE = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 7}


def test_cached_tokens_of_another_provider(litellm_server: Any, spans: Spans) -> None:
    """Tokens that Anthropic counts beside the input are a part of it, in a whole answer."""
    usage = {**CLAUDE_USAGE, "output_tokens": 2, "cache_creation": {"ephemeral_1h_input_tokens": 7}}
    said = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": usage}
    litellm_server.reply({**CLAUDE, **said})
    litellm.completion(model="anthropic/claude-x", messages=HELLO, api_base=litellm_server.base_url, api_key="test")
    got = read_attributes(spans)
    assert spans.tree() == "chat claude-x [16 in, 2 out]"
    assert got["gen_ai.provider.name"] == "anthropic"
    assert (got[sc.USAGE_CACHE_READ_INPUT_TOKENS], got[sc.USAGE_CACHE_WRITE_INPUT_TOKENS]) == (4, 7)
    assert got[sc.USAGE_LONG_CACHE_WRITE_INPUT_TOKENS] == 7
    assert sc.USAGE_TEXT_INPUT_TOKENS not in got  # LiteLLM's has no cached text in it


def event(kind: str, **more: Any) -> tuple[str, Any]:
    return kind, {"type": kind, **more}


def test_tokens_of_a_stream_that_nobody_asked_for(litellm_server: Any, spans: Spans) -> None:
    """LiteLLM hides them in the last chunk, unless the caller asks for them; zeros are no counts."""
    litellm_server.stream(
        event("message_start", message={**CLAUDE, "content": [], "usage": CLAUDE_USAGE}),
        (
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ),
        (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        ),
        (
            "message_delta",
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        ),
        ("message_stop", {"type": "message_stop"}),
    )
    list(
        litellm.completion(
            model="anthropic/c", messages=HELLO, api_base=litellm_server.base_url, api_key="test", stream=True
        )
    )
    got = read_attributes(spans)
    assert got[sc.USAGE_OUTPUT_TOKENS] == 2
    assert got.get(sc.USAGE_INPUT_TOKENS) in {None, 16}  # old versions forget the input


@pytest.mark.parametrize(
    ("usage", "choices"), [(None, ANSWER["choices"]), (USAGE, []), ({"total_tokens": None}, ANSWER["choices"])]
)
def test_odd_answers(usage: Any, choices: Any, litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    """An answer without tokens, or without choices, is what LiteLLM makes of it, and one span."""
    litellm_server.reply({**ANSWER, "usage": usage, "choices": choices})
    try:
        litellm.completion(model="openai/m", messages=HELLO, **litellm_where)
    except openai.APIError:
        assert spans.tree().startswith("chat m [ERROR litellm.")
    else:
        assert spans.one().name == "chat m"


def test_a_tool_call_without_an_id(litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    """It is recorded as far as it is told, in a stream."""
    first, last = chunk(), chunk(finish="tool_calls")
    first["choices"][0]["delta"] = {"tool_calls": [{"index": 0, "function": {"name": "look_up", "arguments": "{"}}]}
    last["choices"][0]["delta"] = {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}
    litellm_server.stream(first, last, "[DONE]")
    list(litellm.completion(model="openai/m", messages=HELLO, stream=True, **litellm_where))
    (said,) = read_messages(spans)
    assert [(part["type"], part["name"]) for part in said["parts"]] == [("tool_call", "look_up")]


@pytest.mark.parametrize(("model", "name"), [("deepseek/m", "chat m"), ("openai/m", "text_completion m")])
def test_a_text_completion(model: str, name: str, litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    """It is one call, which LiteLLM makes as a chat where the provider has nothing else."""
    text = {"index": 0, "text": "One two.", "finish_reason": "stop"}
    litellm_server.reply(ANSWER if "chat" in name else {**ANSWER, "object": "text_completion", "choices": [text]})
    litellm.text_completion(model=model, prompt="once", **litellm_where)
    assert spans.tree() == f"{name} [12 in, 5 out]"
    assert content(spans.one(), "gen_ai.input.messages")[0]["parts"] == [{"type": "text", "content": "once"}]
    assert read_messages(spans)[0]["parts"] == [{"type": "text", "content": "One two."}]


def test_embeddings(litellm_server: Any, litellm_where: Any, spans: Spans) -> None:
    litellm_server.reply(
        {
            "object": "list",
            "model": "e",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        }
    )
    litellm.embedding("openai/e", ["a"], **litellm_where)
    asyncio.run(litellm.aembedding(model="openai/e", input=["a"], **litellm_where))
    assert spans.tree().splitlines() == ["embeddings e [3 in, 0 out]"] * 2
    got = read_attributes(spans, "embeddings e")
    assert (got["gen_ai.embeddings.dimension.count"], got["mlspan.input"]) == (2, '["a"]')


def test_a_reranking(litellm_server: Any, spans: Spans) -> None:
    litellm_server.reply({"id": "r", "results": [{"index": 1, "relevance_score": 0.9}], "meta": {}})
    litellm.rerank(model="cohere/r", query="q", documents=["a", "b"], api_base=litellm_server.base_url, api_key="test")
    assert spans.one().name == "rerank"
    assert "0.9" in read_attributes(spans)["mlspan.output"]


RESPONSE: Any = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-4o",
    "status": "completed",
    "output": [
        {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17},
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "metadata": {},
    "temperature": 1.0,
    "top_p": 1.0,
}


@pytest.mark.parametrize("stream", [False, True])
def test_responses(stream: bool, litellm_server: Any, spans: Spans) -> None:
    """LiteLLM sends them itself: no client's hook sees them."""
    asked = {"model": "openai/gpt-4o", "input": "hi", "api_base": litellm_server.base_url, "api_key": "test"}
    if stream:
        begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
        delta = {"type": "response.output_text.delta", "item_id": "m1", "output_index": 0, "content_index": 0}
        litellm_server.stream(
            {"type": "response.created", "response": begun},
            {**delta, "delta": "Hi"},
            {"type": "response.completed", "response": RESPONSE},
        )
        assert len(list(litellm.responses(**asked, stream=True))) == 3
    else:
        litellm_server.reply(RESPONSE)
        asyncio.run(litellm.aresponses(**asked))
    assert spans.tree() == "chat gpt-4o [12 in, 5 out]"
    (said,) = read_messages(spans)
    assert said["parts"] == [{"type": "text", "content": "Hi"}]


def test_a_response_of_a_provider_without_responses(litellm_server: Any, spans: Spans) -> None:
    """LiteLLM asks for a chat; the call is one span."""
    litellm_server.reply(ANSWER)
    litellm.responses(model="deepseek/deepseek-chat", input="hi", api_base=litellm_server.base_url, api_key="test")
    assert spans.tree() == "chat deepseek-chat [12 in, 5 out]"


def test_chunks_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are read in the shorter way record what they do in the longer one."""
    check_both_ways(LITELLM_READING, monkeypatch)
