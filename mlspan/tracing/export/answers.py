"""Answers of an HTTP server: when to ask again, whether it is the server that we think, its words for a log line.

``choose_wait`` in ``sending/sender.py`` makes the wait of it, together with our own backoff.
"""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any, Final

import orjson

_MAX_QUOTED: Final = 200  # characters of a server's own words
_AGREEMENTS: Final = (b"", b"ok", b"success", b"accepted")  # in lower case: what some receivers answer as text
MAX_ANSWER: Final = 4 * 1024 * 1024  # bytes: an answer that says whether spans were taken is far smaller
# For the head, and for the body: a limit of the time between two bytes never ends one that drips.
MAX_SECONDS: Final = 60.0
_READ_BYTES: Final = 64 * 1024
_EVENTS: Final = "text/event-stream"  # which never ends
_MARKUP_TYPES: Final = ("text/html", "application/xhtml", "text/xml", "application/xml")


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, a number or a date; None without a usable one."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time()
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


class EndlessAnswer(Exception):  # noqa: N818  # an answer, not an error in the program
    """An answer that is too long, or that does not end: another server is behind the address."""


def read_answer(answer: Any, most: int = MAX_ANSWER) -> bytes:
    """Return the body of a urllib3 response whose content was not preloaded, decoded.

    Raise EndlessAnswer if it is longer than *most* bytes, takes longer than a minute, or is a stream of events. The
    connection is closed then.
    """
    if (answer.headers.get("Content-Type") or "").startswith(_EVENTS):
        answer.close()
        raise EndlessAnswer("a stream of events")
    read = answer.read1 if hasattr(answer, "read1") else answer.read  # the former returns what has come
    parts, size, until = [], 0, monotonic() + MAX_SECONDS
    while data := read(_READ_BYTES, decode_content=True):
        parts.append(data)
        size += len(data)
        if size > most or monotonic() > until:
            answer.close()
            raise EndlessAnswer("an answer without end")
    answer.release_conn()
    return b"".join(parts)


def is_foreign_answer(content_type: str | None, content: bytes) -> bool:
    """Return True if this cannot be the answer of a receiver of spans that has accepted some.

    It is a page for people then, of a sign-in, a proxy or another server behind the address, or some other text.
    """
    kind, words = (content_type or "").lower(), content.strip()
    if kind.startswith(_MARKUP_TYPES) or words[:1] == b"<":
        return bool(words)
    if kind.startswith("text/") and words.lower() not in _AGREEMENTS:
        return not isinstance(parse_object(content), dict)
    if "json" in kind and words:
        return not isinstance(parse_object(content), dict)
    return False


def parse_object(content: bytes) -> dict[str, Any] | None:
    """Return the JSON object in an answer; None if it holds none."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def quote_answer(content: bytes | str, longest: int = _MAX_QUOTED) -> str:
    """Return a server's own words as one line, cut, with control characters escaped."""
    text = content[: 4 * longest].decode("utf-8", "replace") if isinstance(content, bytes) else content[: 4 * longest]
    words = " ".join(text.split())[:longest]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in words)
