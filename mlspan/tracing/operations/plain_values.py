"""Plain values: a copy of any value as dicts, lists and scalars, bounded in bytes; what is over is cut and marked.

The work is bounded by the bytes that are kept, never by what the value holds: a value may contain itself, hold one part
a million times, or be larger than memory. What may be called of an object stands in :mod:`.foreign_objects`, and the
limit of an attribute (``max_content_bytes``) in :mod:`.content`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import orjson

from .foreign_objects import as_text, replace_surrogates, simplify_object
from .plain_checks import SCALARS, is_cheaply_plain

CYCLE: Final = "[contains itself]"
TOO_DEEP: Final = "[cut: nested too deep]"
CUT: Final = "[cut]"  # the key under which a dict that is cut says so
KEEP: Final = 7 * 128 * 1024  # bytes of a copy, where nobody says how many: a little less than may be written
_DEEPEST: Final = 64
_NUMBER: Final = 21  # bytes of one in JSON, at most but for a few floats; the whole is measured when it is written
_FAIR: Final = 64  # bytes: where each item could have so many, one may not take the room of the others
_AT_ONCE: Final = 64 * 1024  # bytes: what is no larger is copied at once
_STEP: Final = 32  # bytes for each value that is copied by itself
_INT64: Final = range(-(2**63), 2**63)
# Strict integers: MLflow cannot give back a trace that holds one beyond 64 bits, so those become text.
OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_STRICT_INTEGER
_SCHEMA_KEYS: Final = frozenset(  # of the message schemas, and below the words that stand under them
    {"arguments", "content", "file_id", "finish_reason", "id", "mime_type", "modality"}
    | {"name", "parts", "response", "role", "type", "uri"}
)
_SCHEMA_WORDS: Final = frozenset(
    {"assistant", "developer", "system", "tool", "user"}
    | {"blob", "file", "function", "reasoning", "text", "tool_call", "tool_call_response", "uri"}
    | {"audio", "document", "image", "video"}
    | {"content_filter", "error", "length", "stop"}
)


def measure_utf8(text: str) -> int:
    """Return how many bytes *text* takes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def cut_text(text: str, limit: int) -> str:
    """Return the head of *text* that fits into *limit* bytes with a mark behind it; *text* itself where it fits."""
    if len(text) * 4 <= limit or (size := measure_utf8(text)) <= limit:
        return text
    mark = f"… [cut: {size} bytes in all]"
    room = limit - len(mark.encode())
    return text[:room].encode()[:room].decode(errors="ignore") + mark if room > 0 else "…" if limit > len("…") else ""


def to_plain_data(value: object, room: int = KEEP) -> object:
    """Return *value* as it is now: about *room* bytes of it, in dicts, lists and scalars of its own.

    Strings stay whole: they cost nothing to keep, and have to be redacted before they are cut.
    """
    if value is None or type(value) is str:
        return value
    if is_cheaply_plain(value, min(room, _AT_ONCE)):
        try:
            return orjson.loads(orjson.dumps(value, option=OPTIONS))
        except (TypeError, ValueError, RecursionError):  # lone surrogates, integers over 64 bits
            pass
    kept = copy_bounded(value, room, whole_text=True)
    return KeptDict(kept) if type(kept) is dict else KeptList(kept) if type(kept) is list else kept


class KeptDict(dict[str, Any]):
    """A copy of our own, which nobody need look through again before it is written."""

    __slots__ = ()


class KeptList(list[Any]):
    """As KeptDict."""

    __slots__ = ()


def copy_bounded(
    value: object, room: int, *, text: Callable[[str], str] | None = None, whole_text: bool = False
) -> object:
    """Return *value* as dicts, lists and scalars that take about *room* bytes as JSON.

    Args:
        value: anything.
        room: in bytes. Escapes are not counted, so what is written has to be measured.
        text: rewrites every string before it is cut; the words that the message schemas are made of stay.
        whole_text: keep strings whole, and make a copy of all that may change.
    """
    return _Walk(text, room=room, whole_text=whole_text).copy(value, room, 0)[0]


class _Walk:
    """One bounded copy under way. Its methods return copies, and the bytes that they take."""

    def __init__(self, text: Callable[[str], str] | None, *, room: int, whole_text: bool) -> None:
        self._text, self._whole = text, whole_text
        self._above: set[int] = set()  # ids of what we are inside of
        self._steps = room // _STEP + 1000  # left, whatever is shared or empty

    def copy(self, value: Any, room: int, depth: int) -> tuple[object, int]:
        cls = type(value)
        if cls is str:
            return self._copy_string(value, room)
        if value is None or cls is bool:
            return value, 5
        if cls is int and value in _INT64:
            return value, _NUMBER
        if cls is float:
            return value if math.isfinite(value) else None, _NUMBER
        self._steps -= 1
        if self._steps < 0 or room < _FAIR:
            return self._copy_plain(value, room) or (CUT, len(CUT) + 2)
        if depth > _DEEPEST:
            return TOO_DEEP, len(TOO_DEEP)
        if id(value) in self._above:
            return CYCLE, len(CYCLE)
        self._above.add(id(value))
        try:
            if cls is dict or cls is KeptDict:
                return self._copy_mapping(value, room, depth)
            if cls is list or cls is tuple or cls is KeptList:
                return self._copy_sequence(value, room, depth)
            # Foreign: one step nearer to JSON, and no deeper, as what it is made of may point back to it.
            return self.copy(simplify_object(value, room), room, depth + 1)
        finally:
            self._above.discard(id(value))

    def _copy_string(self, value: str, room: int) -> tuple[str, int]:
        said = replace_surrogates(value if self._text is None else self._text(value))
        if not self._whole:
            said = cut_text(said, room - 2)
        return said, min(measure_utf8(said) if len(said) < room else room, max(room, 0)) + 2

    def _copy_key(self, key: object, room: int) -> str:
        said = as_text(key)
        if self._text is not None and said not in _SCHEMA_KEYS:
            said = replace_surrogates(self._text(said))
        return said if self._whole else cut_text(said, room // 2)

    def _copy_plain(self, value: object, room: int) -> tuple[Any, int] | None:
        """Return the copy at once where *value* is plain, fits, and nothing in it is to be rewritten."""
        if self._text is not None or not is_cheaply_plain(value, room):
            return None
        try:
            data = orjson.dumps(value, option=OPTIONS)
        except (TypeError, ValueError, RecursionError):  # as in snapshot
            return None
        if len(data) > room:
            return None
        return orjson.loads(data) if self._whole else value, len(data)

    def _copy_mapping(self, value: dict[Any, Any], room: int, depth: int) -> tuple[object, int]:
        length = len(value)
        pairs = list(islice(value.items(), max(room, 0) // 4 + 1))
        if not self._whole and value.get("type") == "blob":
            pairs = list(_leave_out_bytes(pairs, room))
        if len(pairs) * _FAIR <= room:
            names = [self._copy_key(key, room) for key, _ in pairs]
            room_left = room - sum(map(len, names)) - 4 * len(names)
            copies, size = self._copy_in_fair_parts(names, [item for _, item in pairs], room_left, depth)
            return dict(zip(names, copies, strict=True)), size + room - room_left
        made, size = self._copy_head(pairs, room, depth, pairs=True)
        said = dict(made)
        if len(made) < length:
            said[CUT] = f"{len(made)} of {length} are kept"
        return said, size

    def _copy_sequence(self, items: Any, room: int, depth: int) -> tuple[list[object], int]:
        length = len(items)
        if length * _FAIR <= room:
            return self._copy_in_fair_parts([""] * length, items, room, depth)
        if depth == 0 and type(items[0]) is dict:  # messages: their first and their last say most
            made, size = self._copy_head(items, room // 2, depth)
            last, more = self._copy_head(items[: len(made) - 1 : -1], room - size, depth)
            return made + last[::-1], size + more
        made, size = self._copy_head(items, room, depth)
        if len(made) < length:
            made.append(f"[cut: {len(made)} of {length} are kept]")
        return made, size

    def _copy_in_fair_parts(self, names: list[str], items: Any, room: int, depth: int) -> tuple[list[object], int]:
        """Copy *items*, small ones whole; what is left of the room is for the large ones, in equal parts."""
        made: list[object] = []
        size, large = 2, []
        most = room // (4 * len(items)) if items else 0
        for name, item in zip(names, items, strict=True):
            cls = type(item)
            if self._text is not None and name in _SCHEMA_KEYS and cls is str and item in _SCHEMA_WORDS:
                found: tuple[object, int] | None = (item, len(item) + 2)
            elif (cls is str and len(item) * 4 <= most) or cls in SCALARS:
                found = self.copy(item, room, depth + 1)
            else:
                found = None if cls is str else self._copy_plain(item, most)
            if found is None:
                large.append(len(made))
                found = None, 0
            made.append(found[0])
            size += found[1] + 1
        for left, place in zip(range(len(large), 0, -1), large, strict=True):
            made[place], took = self.copy(items[place], max((room - size) // left, 0), depth + 1)
            size += took
        return made, size

    def _copy_head(self, items: Any, room: int, depth: int, *, pairs: bool = False) -> tuple[list[Any], int]:
        """Copy *items*, or (key, value) *pairs*, until the room is used up; plain ones many at a time."""
        made: list[Any] = []
        size, place, step = 2, 0, min(64, len(items))
        while place < len(items) and size < room:
            part = items[place : place + step]
            together = _make_dict(part) if pairs else part
            plain = self._copy_plain(together, room - size) if together is not None else None
            if plain is not None:
                made += plain[0].items() if pairs else plain[0]
                size += plain[1] - 1
                place += len(part)
                step = max(1, min(step * 2, 4096, (room - size) * place // size))  # no more than seem to fit
            elif step > 1:
                step = step // 4 if step > 8 else 1
            else:
                key, item = part[0] if pairs else ("", part[0])
                named = self._copy_key(key, room - size) if pairs else ""
                copied, took = self.copy(item, room - size - len(named), depth + 1)
                made.append((named, copied) if pairs else copied)
                size += took + len(named) + 4 * pairs + 1
                place += 1
        return made, size


def _make_dict(pairs: list[tuple[Any, Any]]) -> dict[str, object] | None:
    """Return *pairs* as a dict; None where a key is no string: others may have code of their own."""
    return dict(pairs) if all(type(key) is str for key, _ in pairs) else None


def _leave_out_bytes(pairs: list[tuple[object, object]], room: int) -> Iterator[tuple[object, object]]:
    """Yield the pairs of a blob. Half a picture is no picture: one that is too large loses its bytes."""
    for key, value in pairs:
        if key == "content" and type(value) is str and len(value) > room // 2:
            yield key, ""
            yield "cut", f"{len(value)} bytes of base64"
        else:
            yield key, value
