"""Times, counts, money and text as a person reads them."""

from __future__ import annotations

import math
import re
import time
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rich.cells import cell_len, set_cell_size

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def duration(ms: float | None) -> str:
    """``0.4 ms``, ``412 ms``, ``1.24 s``, ``2m 05s``, ``1h 02m``."""
    if ms is None:
        return ""
    if ms < 9.95:
        return f"{ms:.1f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 59_995:
        return f"{ms / 1000:.2f} s" if ms < 9_995 else f"{ms / 1000:.1f} s"
    seconds = round(ms / 1000)
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02}s"
    return f"{seconds // 3600}h {seconds % 3600 // 60:02}m"


def money(dollars: float | None) -> str:
    """Two digits that say something: ``$1.23``, ``$0.0042``; nothing for a cost that is not known."""
    if dollars is None:
        return ""
    if dollars <= 0:
        return "$0"
    places = max(2, 1 - math.floor(math.log10(dollars)))
    return f"${dollars:,.{places}f}"


def count(number: float | None) -> str:
    """``12``, ``1,234``, ``12.3k``, ``4.5M``."""
    if number is None:
        return ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if letter == 'k' else size):.1f}{letter}"
    return f"{number:,.0f}"


def many(number: int, what: str) -> str:
    """``1 span``, ``1,234 spans``."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def when(ms: float, *, now: float | None = None) -> str:
    """Local time: ``16:24:01`` of today, ``24 Nov 16:24`` of this year, else ``2025-11-24``."""
    moment = datetime.fromtimestamp(ms / 1000).astimezone()
    today = datetime.fromtimestamp(now or time.time()).astimezone()
    if moment.date() == today.date():
        return f"{moment:%H:%M:%S}"
    return f"{moment:%d %b %H:%M}" if moment.year == today.year else f"{moment:%Y-%m-%d}"


def moment(ms: float) -> str:
    """Local time, whole."""
    return f"{datetime.fromtimestamp(ms / 1000).astimezone():%Y-%m-%d %H:%M:%S}"


def since(text: str, *, now: float | None = None) -> int:
    """Milliseconds since 1970 of ``90s``, ``15m``, ``1h``, ``2d``, ``1w`` ago, or of an ISO date or time.

    Raises ValueError for anything else.
    """
    if found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text):
        ago = float(found[1]) * _UNITS[found[2]]
        return max(0, round(((now or time.time()) - ago) * 1000))
    try:
        return round(datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ValueError("takes 90s, 15m, 1h, 2d, 1w, or a date such as 2026-01-31 or 2026-01-31T12:00") from None


def plain(text: str) -> str:
    """*text* without what would move a terminal's cursor or turn its direction: answers of models are not trusted."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if char in "\t\n\r" else char for char in text if char in "\t\n\r" or _harmless(char))


def _harmless(char: str) -> bool:
    category = unicodedata.category(char)
    return category != "Cc" and (
        category != "Cf" or char in "\u200c\u200d"
    )  # the joiners hold scripts and emoji together


def one_line(text: str) -> str:
    """*text* on one line, as far as any line reaches."""
    return " ".join(plain(text[:2000]).split())


def fit(text: str, width: int, *, ascii_only: bool = False) -> str:
    """*text* cut to *width* cells of a terminal."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    more = "..." if ascii_only else "…"
    if width <= len(more):
        return set_cell_size(text, width)
    return set_cell_size(text, width - len(more)).rstrip() + more


def flowed(pieces: list[str], separator: str, width: int) -> Iterator[str]:
    """*pieces* on as many lines as they need, none of them broken."""
    line = ""
    for piece in pieces:
        if line and cell_len(line + separator + piece) > width:
            yield line
            line = piece
        else:
            line += (separator if line else "") + piece
    if line:
        yield line


def span_bar(begin: float, length: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar from *begin* over *length*, both shares of *width*: never outside of it, and never nothing."""
    first = min(int(begin * width), width - 1)
    cells = max(0.0, min(length * width, width - first))
    if ascii_only:
        return " " * first + "#" * max(1, round(cells))
    whole, eighths = divmod(max(1, round(cells * 8)), 8)
    return " " * first + "█" * whole + (_EIGHTHS[eighths] if eighths else "")


def bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    return span_bar(0, share, width, ascii_only=ascii_only) if share > 0 else ""
