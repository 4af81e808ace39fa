"""What an HTTP server answers: when to ask again, whether it is the server that we think, its words for a log line."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from time import time
from typing import Final

_MAX_QUOTED: Final = 200  # characters of a server's own words
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


def is_markup(content_type: str | None, content: bytes) -> bool:
    """Return True if an answer is a page for people: a sign-in page, or that of a proxy or another server."""
    if (content_type or "").lower().startswith(_MARKUP_TYPES):
        return True
    return content.lstrip()[:1] == b"<"


def quote_answer(content: bytes | str, longest: int = _MAX_QUOTED) -> str:
    """Return a server's own words as one line, cut, with control characters escaped."""
    text = content[: 4 * longest].decode("utf-8", "replace") if isinstance(content, bytes) else content[: 4 * longest]
    words = " ".join(text.split())[:longest]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in words)
