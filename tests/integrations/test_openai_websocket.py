"""The Responses API over a websocket, and what goes wrong or aside in Realtime sessions, against a scripted server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from socket import SHUT_RDWR
from typing import Any

import openai
import pytest

from mlspan import tracing
from mlspan.testing import Spans, content

pytest.importorskip("websockets")
from websockets.sync.server import ServerConnection, serve

pytestmark = pytest.mark.usefixtures("openai_on")

USAGE = {"input_tokens": 20, "output_tokens": 9, "total_tokens": 29}
Answer = Callable[[dict[str, Any]], list[Any]]  # an event of the client -> events of the server; None hangs up


@pytest.fixture
def socket() -> Iterator[Callable[[Answer], openai.OpenAI]]:
    """``socket(answer)``: a client of a server that answers each event as *answer* says."""
    servers: list[tuple[Any, threading.Thread, openai.OpenAI]] = []

    def start(answer: Answer) -> openai.OpenAI:
        def handle(connection: ServerConnection) -> None:
            for text in connection:
                for event in answer(json.loads(text)):
                    if event is None:
                        connection.socket.shutdown(SHUT_RDWR)
                        return
                    connection.send(json.dumps(event))

        server = serve(handle, "127.0.0.1", 0, close_timeout=0.2)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        client = openai.OpenAI(base_url=url, websocket_base_url=url.replace("http", "ws"), api_key="x")
        servers.append((server, thread, client))
        return client

    yield start
    for server, thread, client in servers:
        client.close()
        server.shutdown()
        thread.join(10)


def response(id: str, status: str, *output: Any, **more: Any) -> dict[str, Any]:
    head = {"id": id, "object": "response", "created_at": 1, "model": "gpt-5-mini", "status": status}
    return {**head, "output": list(output), "tools": [], "usage": USAGE if output else None, **more}


def message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def delta(text: str) -> dict[str, Any]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": [], "sequence_number": 1}
    return {"type": "response.output_text.delta", "delta": text, **place}


def answer_responses(asked: dict[str, Any]) -> list[Any]:
    id = f"resp_{asked['input']}"
    begun = {"type": "response.created", "sequence_number": 0, "response": response(id, "in_progress")}
    error = {
        "type": "error",
        "status": 400,
        "error": {"type": "invalid_request_error", "code": "bad", "message": "No."},
    }
    if asked["input"] == "refuse":
        return [error]
    if asked["input"] == "hang up":
        return [begun, delta("Hi"), None]
    done = response(id, "completed", message("Hi."))
    return [begun, delta("Hi"), delta("."), {"type": "response.completed", "sequence_number": 3, "response": done}]


@pytest.fixture(params=["responses", "beta"])
def responses(request: pytest.FixtureRequest, socket: Any) -> Any:
    client = socket(answer_responses)
    found = client.responses if request.param == "responses" else getattr(client.beta, "responses", None)
    if not hasattr(found, "connect"):
        pytest.skip("this version of the client has no websocket for responses")
    return found


def ask(connection: Any, text: str) -> str:
    """Ask, and read up to the end; return the type of the last event."""
    connection.response.create(model="gpt-5-mini", input=text, instructions="Be brief.")
    for event in connection:
        if event.type in {"response.completed", "error"}:
            return str(event.type)
    return ""


def test_each_response_is_a_span_where_it_was_asked_for(responses: Any, spans: Spans) -> None:
    with responses.connect() as connection:
        for name in ("one", "two"):
            with tracing.span(name):
                assert ask(connection, name) == "response.completed"
    assert spans.tree() == "one\n  chat gpt-5-mini [20 in, 9 out]\ntwo\n  chat gpt-5-mini [20 in, 9 out]"
    chat = next(span for span in spans.all if span.name.startswith("chat"))
    assert content(chat, "gen_ai.input.messages")[0]["parts"] == [{"type": "text", "content": "one"}]
    assert content(chat, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi."}]
    assert content(chat, "gen_ai.system_instructions") == [{"type": "text", "content": "Be brief."}]
    assert (chat.attributes or {})["server.address"] == "127.0.0.1"


def test_an_error_event_belongs_to_what_was_asked(responses: Any, spans: Spans) -> None:
    """The next response on the same connection is not touched by it."""
    with responses.connect() as connection:
        assert ask(connection, "refuse") == "error"
        assert ask(connection, "one") == "response.completed"
    assert spans.tree() == "chat gpt-5-mini [ERROR bad]\nchat gpt-5-mini [20 in, 9 out]"
    assert spans.all[0].status.description == "No."


def test_a_lost_connection_is_an_error(responses: Any, spans: Spans) -> None:
    with responses.connect() as connection, pytest.raises(Exception, match="close"):
        ask(connection, "hang up")
    span = spans.one()
    assert (span.attributes or {})["error.type"] == "websockets.exceptions.ConnectionClosedError"
    assert content(span, "gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "Hi"}]


def test_a_connection_that_is_closed_in_the_middle(responses: Any, spans: Spans) -> None:
    with responses.connect() as connection:
        connection.response.create(model="gpt-5-mini", input="one")
        assert next(iter(connection)).type == "response.created"
    assert spans.tree() == "chat gpt-5-mini [stream closed]"


async def test_the_async_connection(responses: Any, spans: Spans) -> None:
    url = str(responses._client.base_url)
    async with openai.AsyncOpenAI(base_url=url, websocket_base_url=url.replace("http", "ws"), api_key="x") as client:
        found = client.beta.responses if "beta" in type(responses).__module__ else client.responses
        async with found.connect() as connection:
            await connection.response.create(model="gpt-5-mini", input="one")
            async for event in connection:
                if event.type == "response.completed":
                    break
    assert spans.tree() == "chat gpt-5-mini [20 in, 9 out]"


def answer_realtime(asked: dict[str, Any]) -> list[Any]:
    if asked["type"] != "response.create":
        return []
    given = asked.get("response") or {}
    if (given.get("metadata") or {}).get("topic") == "refuse":
        error = {"type": "invalid_request_error", "code": "bad", "message": "No.", "event_id": None, "param": None}
        return [{"type": "error", "event_id": "ev_1", "error": error}]
    aside = given.get("conversation") == "none"
    made = {"id": "resp_2" if aside else "resp_1", "object": "realtime.response", "metadata": given.get("metadata")}
    made["conversation_id"] = None if aside else "conv_1"
    said = {"id": "item_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi."}]}
    begun = {
        "type": "response.created",
        "event_id": "ev_2",
        "response": {**made, "status": "in_progress", "output": []},
    }
    done = {**made, "status": "completed", "output": [said], "usage": USAGE}
    return [begun, {"type": "response.done", "event_id": "ev_3", "response": done}]


def user(text: str) -> Any:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


@pytest.fixture
def realtime(socket: Any) -> Any:
    client = socket(answer_realtime)
    if not hasattr(client, "realtime"):
        pytest.skip("this version of the client has only the beta of realtime")
    return client.realtime


def read_to_end(connection: Any) -> None:
    for event in connection:
        if event.type in {"response.done", "error"}:
            return


def test_a_response_out_of_band_has_its_own_input(realtime: Any, spans: Spans) -> None:
    """It takes none of the messages that the conversation's next response is about."""
    aside = {"conversation": "none", "metadata": {"topic": "aside"}, "instructions": "Classify."}
    with realtime.connect(model="gpt-realtime") as connection:
        connection.conversation.item.create(item=user("hello"))
        connection.response.create(response={**aside, "input": [user("Is it rude?")]})
        read_to_end(connection)
        connection.response.create()
        read_to_end(connection)
    _, first, second = spans.all
    assert content(first, "gen_ai.input.messages")[0]["parts"] == [{"type": "text", "content": "Is it rude?"}]
    assert content(first, "gen_ai.system_instructions") == [{"type": "text", "content": "Classify."}]
    assert content(second, "gen_ai.input.messages")[0]["parts"] == [{"type": "text", "content": "hello"}]


@pytest.mark.parametrize("recovers", [False, True])
def test_an_error_event_of_a_session(realtime: Any, spans: Spans, recovers: bool) -> None:
    """It is an event of the session, which has failed if nothing good came after it: most errors are recoverable."""
    with realtime.connect(model="gpt-realtime") as connection:
        connection.response.create(response={"metadata": {"topic": "refuse"}})
        read_to_end(connection)
        if recovers:
            connection.response.create()
            read_to_end(connection)
    session = next(span for span in spans.all if span.name == "realtime.session")
    assert [dict(event.attributes or {}) for event in session.events] == [
        {"exception.type": "bad", "exception.message": "No."}
    ]
    assert session.status.description == (None if recovers else "No.")
    assert session.status.is_unset is recovers
