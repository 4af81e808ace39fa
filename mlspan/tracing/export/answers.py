"""Answers of an HTTP server: when to ask again, whether it is the server that we think, its words for a log line."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Final

import orjson

_MAX_QUOTED: Final = 200  # characters of a server's own words
_AGREEMENTS: Final = (b"", b"ok", b"success", b"accepted")  # in lower case: what some receivers answer as text
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
