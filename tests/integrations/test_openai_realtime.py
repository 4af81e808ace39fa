"""Realtime sessions through the client's own websocket, against a real server."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import openai
import pytest

from mlspan.testing import Spans, content

pytest.importorskip("websockets")
pytestmark = [
    pytest.mark.usefixtures("openai_on"),
    pytest.mark.skipif(not find_spec("openai.resources.realtime"), reason="the server speaks no beta of realtime"),
]


SESSION: Any = {"type": "realtime", "instructions": "Be brief."}


def item(text: str) -> Any:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


async def test_a_session_has_a_span_for_each_response(aimock: str, spans: Spans) -> None:
    """Session, responses below it, what was asked and said, and the tool that was called."""
    socket = aimock.replace("http:", "ws:")
    async with openai.AsyncOpenAI(base_url=aimock, websocket_base_url=socket, api_key="test") as client:
        async with client.realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(session=SESSION)
            for text in ("hello", "weather in Paris?"):
                await connection.conversation.item.create(item=item(text))
                await connection.response.create()
                async for event in connection:
                    if event.type == "response.done":
                        break
    session, hello, weather = spans.all
    assert spans.tree() == "realtime.session\n  chat gpt-realtime [0 in, 0 out]\n  chat gpt-realtime [0 in, 0 out]"
    assert content(hello, "gen_ai.input.messages")[0]["parts"] == [{"type": "text", "content": "hello"}]
    assert content(hello, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi there!"}]
    (call,) = content(weather, "gen_ai.output.messages")[0]["parts"]
    assert (call["name"], call["arguments"]) == ("get_weather", {"city": "Paris"})
    for span in spans.all:
        assert (span.attributes or {})["server.address"] == "127.0.0.1"
    ids = {(span.attributes or {})["gen_ai.conversation.id"] for span in spans.all}
    assert len(ids) == 1, ids
    assert (session.attributes or {})["gen_ai.request.model"] == "gpt-realtime"


def test_a_session_left_in_the_middle_of_a_response(aimock: str, spans: Spans) -> None:
    """Closing the connection ends what is open, and says that it was left early."""
    socket = aimock.replace("http:", "ws:")
    with (
        openai.OpenAI(base_url=aimock, websocket_base_url=socket, api_key="test") as client,
        client.realtime.connect(model="gpt-realtime") as connection,
    ):
        connection.conversation.item.create(item=item("hello"))
        connection.response.create()
        for event in connection:
            if event.type == "response.created":
                break
    assert spans.tree() == "realtime.session\n  chat gpt-realtime [stream closed]"
