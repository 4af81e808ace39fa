"""Bodies that are read past the client's own methods: into a file, or from the HTTP response below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from openai_chunks import WHOLE

from mlspan import integrations
from mlspan.testing import Spans, content

pytestmark = pytest.mark.usefixtures("openai_on")

SPEECH: Any = {"model": "tts-1", "voice": "alloy", "input": "say hello"}
ASK: Any = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
SAID = {"role": "assistant", "content": "Hi."}
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
CHAT = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE}
CHAT |= {"choices": [{"index": 0, "message": SAID, "finish_reason": "stop"}]}
SOUND = bytes(range(256)) * 40


def said(spans: Spans) -> Any:
    return [part for message in content(spans.one(), "gen_ai.output.messages") for part in message["parts"]]


def test_a_sound_that_is_streamed_to_a_file(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, tmp_path: Path
) -> None:
    scripted.reply(SOUND)
    with scripted_client.audio.speech.with_streaming_response.create(**SPEECH) as response:
        response.stream_to_file(tmp_path / "a.mp3")
    assert (tmp_path / "a.mp3").read_bytes() == SOUND
    assert spans.tree() == "generate_content tts-1"
    assert said(spans) == [{"type": "audio", "content": {"bytes": len(SOUND)}}]


async def test_the_async_client_streams_to_a_file(scripted: Any, spans: Spans, tmp_path: Path) -> None:
    scripted.reply(SOUND)
    async with openai.AsyncOpenAI(base_url=scripted.base_url, api_key="x") as client:
        async with client.audio.speech.with_streaming_response.create(**SPEECH) as response:
            await response.stream_to_file(tmp_path / "a.mp3")
    assert (tmp_path / "a.mp3").stat().st_size == len(SOUND)
    assert spans.tree() == "generate_content tts-1"
    assert said(spans) == [{"type": "audio", "content": {"bytes": len(SOUND)}}]


@pytest.mark.parametrize("read", ["read", "iter_bytes", "iter_raw", "iter_text", "iter_lines"])
def test_the_http_response_below_a_raw_one(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, read: str
) -> None:
    """However it is read to its end, the span has the answer, and the caller gets what he always got."""
    scripted.reply(CHAT)
    with scripted_client.chat.completions.with_streaming_response.create(**ASK) as response:
        below = response.http_response
        assert below.status_code == 200
        got: Any = getattr(below, read)()
        text = got if isinstance(got, bytes) else b"".join(one.encode() if isinstance(one, str) else one for one in got)
    assert b'"Hi."' in text
    assert spans.tree() == "chat m [12 in, 5 out]"
    assert said(spans) == [{"type": "text", "content": "Hi."}]


async def test_the_http_response_of_the_async_client(scripted: Any, spans: Spans) -> None:
    scripted.reply(CHAT)
    async with openai.AsyncOpenAI(base_url=scripted.base_url, api_key="x") as client:
        async with client.chat.completions.with_streaming_response.create(**ASK) as response:
            assert b'"Hi."' in await response.http_response.aread()
        async with client.chat.completions.with_streaming_response.create(**ASK) as response:
            assert b'"Hi."' in b"".join([piece async for piece in response.http_response.aiter_bytes()])
    assert spans.tree() == "chat m [12 in, 5 out]\nchat m [12 in, 5 out]"


@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_whose_body_is_read_at_once(
    scripted_client: openai.OpenAI, scripted: Any, spans: Spans, asked: bool
) -> None:
    """With ``include_usage`` the caller does not see the chunk that he has not asked for."""
    integrations.openai.autolog(include_usage=asked)
    scripted.stream(*WHOLE)
    body = scripted_client.chat.completions.create(**ASK, stream=True).response.read()
    assert (b"prompt_tokens" in body) is not asked
    assert body.endswith(b"[DONE]\n\n")
    assert spans.tree() == "chat m [12 in, 5 out]"
    assert said(spans) == [{"type": "text", "content": "One two."}]
