"""A server of models whose answer is named by the URL: ``/MODE/SCENARIO/ANSWER/v1/...``; it notes what it was asked."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote

import provider_answers

USAGE: Final = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


def _chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def _chat(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}


def _response(status: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": "Hi.", "annotations": []}
    said = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "parallel_tool_calls": True}
    return {**head, "status": status, "output": [said], "tools": [], "tool_choice": "auto", **more}


def _act(name: str, **arguments: Any) -> tuple[int, Any]:
    """Return what a model says to browser-use, which has it act."""
    told = {
        "evaluation_previous_goal": "Success",
        "memory": "On the way.",
        "next_goal": "Look.",
        "action": [{name: arguments}],
    }
    return 200, _chat({"content": json.dumps(told)})


def _event(kind: str, number: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": number, **more}


_CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Paris"}'}}
_PIECES = [_chunk({"role": "assistant", "content": "One "}), _chunk({"content": "two."}), _chunk({}, "stop")]
_ITEM = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
_JSON: Final[dict[str, tuple[int, Any]]] = {
    **provider_answers.ANSWERS,
    "hi": (200, _chat({"content": "Hi."})),
    "parsed": (200, _chat({"content": '{"city": "Paris"}'})),
    "tool": (200, _chat({"content": None, "tool_calls": [_CALL]}, "tool_calls")),
    "length": (200, _chat({"content": '{"cit'}, "length")),
    "empty": (200, {}),
    "list": (200, [1, 2]),
    "response": (200, _response("completed")),
    "browser-open": _act("navigate", url="about:blank"),
    "browser-fail": _act("fail", word="x"),
    "browser-wait": _act("wait_for_it"),
    "browser-wrong": _act("no_such_action"),
    "browser-done": _act("done", text="It is clear.", success=True),
    "models": (200, {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "us"}]}),
    "vectors": (
        200,
        {
            "object": "list",
            "model": "m",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}],
            "usage": {"prompt_tokens": 2, "total_tokens": 2},
        },
    ),
    "image": (200, {"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}]}),
    "moderation": (200, {"id": "modr-1", "model": "m", "results": []}),
    "completion": (
        200,
        {
            "id": "c-1",
            "object": "text_completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "text": "Hi.", "finish_reason": "stop", "logprobs": None}],
        },
    ),
    **{str(code): (code, {"error": {"message": f"no: {code}", "type": "e"}}) for code in (400, 401, 404, 429, 500)},
}
_EVENTS: Final[dict[str, list[Any]]] = {
    **provider_answers.EVENTS,
    "stream": [*_PIECES, "[DONE]"],
    "stream-unended": _PIECES,
    "stream-nothing": ["[DONE]"],
    "stream-error": [_PIECES[0], {"error": {"message": "overloaded", "type": "server_error"}}],
    "stream-broken": [_PIECES[0], '{"id": '],
    "stream-cut": [_PIECES[0], None],
    "stream-tool": [
        _chunk({"role": "assistant", "tool_calls": [{"index": 0, **_CALL}]}),
        _chunk({}, "tool_calls"),
        "[DONE]",
    ],
    "response-stream": [
        _event("response.created", 0, response=_response("in_progress", output=[])),
        _event(
            "response.output_item.added",
            1,
            output_index=0,
            item={"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []},
        ),
        _event("response.content_part.added", 2, part={"type": "output_text", "text": "", "annotations": []}, **_ITEM),
        _event("response.output_text.delta", 3, delta="Hi.", logprobs=[], **_ITEM),
        _event("response.completed", 4, response=_response("completed")),
    ],
}


class ModelServer:
    """``requests`` are the requests by mode and scenario: method, path and body, without the question for usage."""

    def __init__(self) -> None:  # noqa: C901  # the handler's methods count
        self.requests: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                self.answer(None)

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.answer(json.loads(sent) if sent.startswith(b"{") else None)

            def answer(self, body: Any) -> None:
                _, mode, name, answer, path = self.path.split("/", 4)
                asked = bool((body or {}).get("stream_options", {}).pop("include_usage", False))
                if body is not None and not body.get("stream_options"):
                    body.pop("stream_options", None)
                outer.requests[mode, unquote(name)].append([self.command, path, body])
                if answer.startswith("stream") and not (body or {}).get("stream"):
                    answer = "hi"
                if answer in provider_answers.PIECES:
                    self.send_pieces(*provider_answers.PIECES[answer])
                elif answer in _EVENTS:
                    self.send_events(_EVENTS[answer], asked=asked)
                else:
                    self.send_json(*_JSON.get(answer, (200, b"not JSON")))

            def send_json(self, status: int, body: Any) -> None:
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def send_events(self, events: list[Any], *, asked: bool) -> None:
                self.begin_stream("text/event-stream")
                usage = [_chunk({}) | {"choices": [], "usage": USAGE}] if asked and events[-1:] == ["[DONE]"] else []
                for event in [*events[: -1 if usage else None], *usage, *(["[DONE]"] if usage else [])]:
                    if event is None:
                        self.close_connection = True
                        return
                    name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
                    text = event if isinstance(event, str) else json.dumps(event)
                    self.write_piece(f"{name}data: {text}\n\n".encode())
                self.write_piece(b"")

            def begin_stream(self, content_type: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()

            def send_pieces(self, content_type: str, pieces: list[bytes | None]) -> None:
                self.begin_stream(content_type)
                for piece in pieces:
                    if piece is None:
                        self.close_connection = True
                        return
                    self.write_piece(piece)
                self.write_piece(b"")

            def write_piece(self, piece: bytes) -> None:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()

            def log_message(self, *args: Any) -> None: ...

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None: ...  # clients that hang up are what some scenarios are about

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
