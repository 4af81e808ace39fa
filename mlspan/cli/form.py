"""Formatting of times, counts, costs and text for a terminal, and parsing of times that a person types."""

from __future__ import annotations

import json
import math
import re
import time
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from rich.cells import cell_len, set_cell_size

_NO_DATE: Final = "?"
_SECONDS_PER_UNIT: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PARTIAL_BLOCKS: Final = " ▏▎▍▌▋▊▉█"


def format_duration(ms: float | None) -> str:
    """Return milliseconds as ``0.4 ms``, ``412 ms``, ``1.24 s``, ``2m 05s`` or ``1h 02m``; nothing for None."""
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


def format_whole_duration(ms: float | None) -> str:
    """Return a duration of whole milliseconds, rounded down, as ``<1 ms`` or ``7 ms``; else as format_duration."""
    if ms is None or ms >= 10:
        return format_duration(ms)
    return f"{ms:.0f} ms" if ms else "<1 ms"


def format_cost(dollars: float | None) -> str:
    """Return US dollars with at least two significant digits, as ``$1.23`` or ``$0.0042``; nothing for None."""
    if dollars is None:
        return ""
    if dollars <= 0:
        return "$0"
    places = max(2, 1 - math.floor(math.log10(dollars)))
    return f"${dollars:,.{places}f}"


def format_count(number: float | None) -> str:
    """Return a number as ``12``, ``1,234``, ``12.3k`` or ``4.5M``; nothing for None."""
    if number is None:
        return ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if letter == 'k' else size):.1f}{letter}"
    return f"{number:,.0f}"


def format_bytes(number: int) -> str:
    """Return a number of bytes as ``512 MiB``, ``1.5 KiB`` or ``12 bytes``."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if number >= 1024**power:
            return f"{number / 1024**power:.4g} {unit}"
    return format_quantity(number, "byte")


def format_age(seconds: float) -> str:
    """Return a time span in its largest unit, as ``7 days`` or ``1.5 hours``."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            number = f"{seconds / size:.3g}"
            return f"{number} {unit}{'s' * (number != '1')}"
    return f"{seconds:g} seconds"


def format_quantity(number: int, what: str) -> str:
    """Return a number with its noun, as ``1 span`` or ``1,234 spans``."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def format_short_time(ms: float, *, now: float | None = None) -> str:
    """Return milliseconds since 1970 as local time, as short as is clear.

    ``16:24:01`` for today, ``24 Nov 16:24`` for this year, else ``2025-11-24``. *now* is in seconds since 1970.
    """
    if (moment := _find_local_time(ms)) is None:
        return _NO_DATE
    today = datetime.fromtimestamp(now or time.time()).astimezone()
    if moment.date() == today.date():
        return f"{moment:%H:%M:%S}"
    return f"{moment:%d %b %H:%M}" if moment.year == today.year else f"{moment:%Y-%m-%d}"


def format_full_time(ms: float) -> str:
    """Return milliseconds since 1970 as local date and time, to the second."""
    moment = _find_local_time(ms)
    return _NO_DATE if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _find_local_time(ms: float) -> datetime | None:
    """Return milliseconds since 1970 as local time; None outside of the calendar, as a clock may be set to anything."""
    try:
        return datetime.fromtimestamp(ms / 1000).astimezone()
    except (OSError, OverflowError, ValueError):
        return None


def parse_time(text: str, *, now: float | None = None) -> int:
    """Return the time that *text* names, in milliseconds since 1970.

    *text* is a time span before *now* (``90s``, ``15m``, ``1h``, ``2d``, ``1w``), or an ISO date or time.

    Raises:
        ValueError: for any other text.
    """
    if (ago := _parse_seconds(text)) is not None:
        return max(0, round(((now or time.time()) - ago) * 1000))
    try:
        return round(datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ValueError("takes 90s, 15m, 1h, 2d, 1w, or a date such as 2026-01-31 or 2026-01-31T12:00") from None


def parse_span(text: str) -> int:
    """Return the time span that *text* names (``90s``, ``15m``, ``1h``, ``2d``, ``1w``), in milliseconds.

    Raises:
        ValueError: for any other text.
    """
    if (seconds := _parse_seconds(text)) is None:
        raise ValueError("takes 90s, 15m, 1h, 2d or 1w")
    return round(seconds * 1000)


def _parse_seconds(text: str) -> float | None:
    """Return the seconds of a time span; None if *text* is none."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text)
    return float(found[1]) * _SECONDS_PER_UNIT[found[2]] if found else None


def find_utc_offset() -> int:
    """Return how far the local time of today is ahead of UTC, in milliseconds."""
    return round((datetime.now().astimezone().utcoffset() or timedelta()).total_seconds() * 1000)


def shorten_trace_id(trace_id: str) -> str:
    """Return the first eight digits of a trace's id, by which ``show`` finds it."""
    return trace_id.removeprefix("tr-")[:8]


def strip_control_characters(text: str) -> str:
    """Return *text* without characters that move a terminal's cursor or change the direction of text.

    Answers of models are not trusted.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if char in "\t\n\r" else char for char in text if char in "\t\n\r" or _is_harmless(char))


def escape_for_terminal(text: str) -> str:
    """Return JSON that says the same, with escapes for what :func:`strip_control_characters` would take away."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(
        char if char == "\n" or _is_harmless(char) else json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"
        for char in text
    )


def _is_harmless(char: str) -> bool:
    """Return whether *char* neither controls a terminal nor is an invisible format character."""
    category = unicodedata.category(char)
    return category != "Cc" and (
        category != "Cf" or char in "\u200c\u200d"
    )  # the joiners (U+200C, U+200D) are needed by some scripts and by emoji


def join_lines(text: str) -> str:
    """Return the first 2,000 characters of *text* as one line without control characters."""
    return " ".join(strip_control_characters(text[:2000]).split())


def truncate_to_width(text: str, width: int, *, ascii_only: bool = False) -> str:
    """Return *text* cut to *width* cells of a terminal, with an ellipsis if something was cut."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    more = "..." if ascii_only else "…"
    if width <= len(more):
        return set_cell_size(text, width)
    return set_cell_size(text, width - len(more)).rstrip() + more


def wrap_pieces(pieces: list[str], separator: str, width: int) -> Iterator[str]:
    """Yield lines of *pieces* joined by *separator*, at most *width* cells wide, breaking between pieces only."""
    line = ""
    for piece in pieces:
        if line and cell_len(line + separator + piece) > width:
            yield line
            line = piece
        else:
            line += (separator if line else "") + piece
    if line:
        yield line


def draw_span_bar(begin: float, length: float, width: int, *, ascii_only: bool = False) -> str:
    """Return a bar that starts at *begin* and is *length* long, both as fractions of *width* (in cells).

    The bar is at least an eighth of a cell long and ends within *width*.
    """
    first = min(int(begin * width), width - 1)
    cells = max(0.0, min(length * width, width - first))
    if ascii_only:
        return " " * first + "#" * max(1, round(cells))
    whole, eighths = divmod(max(1, round(cells * 8)), 8)
    return " " * first + "█" * whole + (_PARTIAL_BLOCKS[eighths] if eighths else "")


def draw_bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """Return a bar from the left whose length is the fraction *share* of *width*; nothing for 0."""
    return draw_span_bar(0, share, width, ascii_only=ascii_only) if share > 0 else ""
