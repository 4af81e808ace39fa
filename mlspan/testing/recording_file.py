"""Recorded requests and answers: how a request is known again, and the file that they are kept in.

The file is JSON that a person reads in a review: bodies as JSON, streams as a list of their pieces, as they arrived.
"""

from __future__ import annotations

import base64
import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_VERSION: Final = 1
_BOUNDARY: Final = re.compile(r"boundary=\"?([^\s\";]+)", re.IGNORECASE)
_MOST_COMPARED: Final = 20_000  # characters of a request's text


@dataclass(frozen=True)
class RecordedRequest:
    """A request, without its secrets.

    Attributes:
        service: whose interface it asks: ``openai``, ``anthropic``, or the name given to ``url``.
        method: of HTTP.
        path: below the base URL, with the query.
        body: decoded from JSON, or text; None for none.
    """

    service: str
    method: str
    path: str
    body: Any = None

    def make_key(self, ignored: Iterable[str] = ()) -> str:
        """Return what two requests have in common that count as the same. *ignored* are paths into the body."""
        body = self.body
        for path in ignored:
            body = _leave_out(body, path.split("."))
        return json.dumps([self.service, self.method, self.path, body], sort_keys=True, ensure_ascii=False)

    def render(self) -> str:
        """Return the request as lines for a person."""
        body = self.body if isinstance(self.body, str) else json.dumps(self.body, indent=2, ensure_ascii=False)
        return f"{self.method} {self.path} ({self.service})\n{body if self.body is not None else ''}".rstrip()


@dataclass
class RecordedAnswer:
    """An answer: a whole *body*, or the *chunks* of a stream, as they arrived.

    Attributes:
        is_cut_off: the connection broke before the end.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    chunks: list[Any] | None = None
    is_cut_off: bool = False

    def list_pieces(self) -> list[bytes]:
        """Return the bytes to send, piece by piece."""
        if self.chunks is not None:
            return [_decode_piece(chunk) for chunk in self.chunks]
        is_json = is_json_document(self.headers.get("content-type", ""))
        if is_json and self.body is not None and not is_encoded(self.body):
            return [json.dumps(self.body, ensure_ascii=False).encode()]
        return [b"" if self.body is None else _decode_piece(self.body)]


@dataclass
class Exchange:
    """A request and its answer; None while the answer is under way."""

    request: RecordedRequest
    answer: RecordedAnswer | None = None


def is_json_document(content_type: str) -> bool:
    """Return whether a body of this type is one value of JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def decode_body(data: bytes, content_type: str) -> Any:
    """Return a body as JSON holds it: decoded, as text, or as ``{"base64": ...}``; None for none.

    The boundary of a form, which is another one each time, is written as ``boundary``.
    """
    if not data:
        return None
    if (found := _BOUNDARY.search(content_type)) is not None:
        data = data.replace(found[1].encode(), b"boundary")
    if is_json_document(content_type):
        try:
            return json.loads(data)
        except ValueError:
            pass
    return encode_piece(data)


def encode_piece(data: bytes) -> Any:
    """Return *data* as text, or as ``{"base64": ...}`` if it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def is_encoded(piece: Any) -> bool:
    """Return whether *piece* is what :func:`encode_piece` makes of bytes that are no text."""
    return isinstance(piece, dict) and piece.keys() == {"base64"}


def _decode_piece(piece: Any) -> bytes:
    return base64.b64decode(piece["base64"]) if is_encoded(piece) else str(piece).encode()


def _leave_out(value: Any, path: list[str]) -> Any:
    """Return *value* without what *path* leads to; ``*`` stands for each item."""
    name, rest = path[0], path[1:]
    if isinstance(value, list):
        return [_leave_out(item, rest) if rest else None for item in value] if name == "*" else value
    if not isinstance(value, Mapping):
        return value
    names = value.keys() if name == "*" else {name} & value.keys()
    if not rest:
        return {key: item for key, item in value.items() if key not in names}
    return {key: _leave_out(item, rest) if key in names else item for key, item in value.items()}


def read_recording(path: Path) -> list[Exchange]:
    """Return what the file holds; nothing if there is none.

    Raises:
        ValueError: it is no recording, or one of a newer version.
    """
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("mlspan_recording") != _VERSION:
        raise ValueError(f"{path} is no recording of version {_VERSION}")
    return [
        Exchange(RecordedRequest(**exchange["request"]), RecordedAnswer(**exchange["answer"]))
        for exchange in content["exchanges"]
    ]


def write_recording(path: Path, exchanges: Iterable[Exchange]) -> None:
    """Write the file, whole or not at all."""
    answered = [
        {"request": _list_told(exchange.request), "answer": _list_told(exchange.answer)}
        for exchange in exchanges
        if exchange.answer is not None
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"mlspan_recording": _VERSION, "exchanges": answered}, indent=2, ensure_ascii=False)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
    unfinished.write_text(f"{text}\n", encoding="utf-8", newline="\n")
    unfinished.replace(path)


def _list_told(record: RecordedRequest | RecordedAnswer) -> dict[str, Any]:
    """Return the fields that say something."""
    return {name: value for name, value in vars(record).items() if value not in (None, False, {})}


def describe_unknown(request: RecordedRequest, recorded: Iterable[Exchange], ignored: Sequence[str], path: Path) -> str:
    """Return what to say of a request that has no answer left: how it differs from the closest that was recorded."""
    known = [exchange.request for exchange in recorded]
    shown = path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else str(path)
    end = f"If this is meant to be so, record it: pytest --record-answers ({shown})"
    if not known:
        return f"nothing is recorded for this test, and it asks:\n{request.render()}\n{end}"
    key = request.make_key(ignored)
    if times := sum(one.make_key(ignored) == key for one in known):
        return f"asked more often than was recorded ({times}):\n{request.render()}\n{end}"
    text = request.render()

    def measure_likeness(one: RecordedRequest) -> float:
        matcher = difflib.SequenceMatcher(None, one.render()[:_MOST_COMPARED], text[:_MOST_COMPARED], autojunk=False)
        return matcher.quick_ratio()

    closest = max(known, key=measure_likeness)
    lines = difflib.unified_diff(closest.render().splitlines(), text.splitlines(), n=2, lineterm="")
    difference = "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))
    return f"no such request is recorded. The closest one differs (- recorded, + asked now):\n{difference}\n{end}"
