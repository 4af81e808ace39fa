"""Checks whether a value is plain: made of JSON's own types alone, and not too large to be copied at once."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

_MANY: Final = 16  # items: a list that is longer is asked whether it holds nothing but numbers
_SMALL: Final = 4 * 1024  # bytes: what is no larger is looked through without asking what has been seen
SCALARS: Final = frozenset({int, float, bool, type(None)})
_LEVELS: Final = 200  # what is nested deeper is not written at once: orjson refuses it
_SMALL_TYPES: Final = SCALARS | {str}
_CONTAINERS: Final[frozenset[type]] = frozenset({dict, list, tuple})
_PLAIN_TYPES: Final = _SMALL_TYPES | _CONTAINERS


def is_plain(value: Any, most: int) -> bool:
    """Return whether *value* is made of JSON's own types alone, and of no more than about *most* bytes of them.

    It looks at no more nodes than *most* bytes could hold.
    """
    if type(value) is dict and _SMALL_TYPES.issuperset(map(type, value.values())):  # flat, as most are
        texts = filter(str.__instancecheck__, value.values())
        try:
            return len("".join(value)) + 5 * len(value) + sum(map(len, texts)) <= most
        except TypeError:  # a key that is no text
            return False
    size, found = 0, [value]
    for one in found:
        cls = type(one)
        if cls is str:
            size += len(one) + 1
        elif cls is dict:
            try:
                size += len("".join(one)) + 3 * len(one)
            except TypeError:  # a key that is no text
                return False
            found += one.values()
        elif cls is list or cls is tuple:
            if size + 2 * len(one) > most:
                return False
            if len(one) > _MANY and SCALARS.issuperset(map(type, one)):  # numbers, at a third of the cost
                size += 2 * len(one)
            else:
                found += one
        elif cls not in SCALARS:
            return False
        if size + 2 * len(found) > most:
            return False
    return True


def are_text_messages(value: list[object], most: int) -> bool:
    """Return whether *value* is messages of text alone, of no more than about *most* bytes.

    Most content is of this shape, which is recognized at a third of the cost of :func:`is_plain`.
    """
    size = 0
    for message in value:
        if type(message) is not dict:
            return False
        for held in message.values():
            if type(held) is str:
                size += len(held)
            elif type(held) is list:
                for part in held:
                    if type(part) is not dict:
                        return False
                    for text in part.values():
                        if type(text) is not str:
                            return False
                        size += len(text)
                    size += 2
                    if size > most:
                        return False
            else:
                return False
        size += 2
        if size > most:
            return False
    return True


def is_cheaply_plain(value: object, most: int) -> bool:
    """Return whether *value* is plain, of no more than about *most* bytes, and quick to look through.

    A large value that contains itself, or one part many times, is not: counting what it unfolds to would take as long
    as writing *most* bytes.
    """
    return is_plain(value, min(most, _SMALL)) or (most > _SMALL and is_tree(value, most))


def is_tree(value: Any, most: int) -> bool:
    """Return whether *value* is plain, of no more than about *most* bytes, and holds no part of it twice.

    Its work is that of looking at each part once, however often it comes. It goes level by level, so that no step of
    Python is spent on a single one.
    """
    size, level = 0, [value]
    seen: set[int] = set()
    for _ in range(_LEVELS):
        if not level:
            return True
        kinds = set(map(type, level))
        if not kinds <= _PLAIN_TYPES:
            return False
        if str in kinds:
            size += sum(map(len, level if len(kinds) == 1 else filter(str.__instancecheck__, level)))
        below: list[Any] = []
        for kind in kinds & _CONTAINERS:
            held = list(filter(None, level if len(kinds) == 1 else filter(kind.__instancecheck__, level)))
            ids = set(map(id, held))
            size += 2 * sum(map(len, held))
            if len(ids) < len(held) or not ids.isdisjoint(seen) or size > most:
                return False
            seen |= ids
            below += chain.from_iterable(map(dict.values, held) if kind is dict else held)
        if size > most:
            return False
        level = below
    return False
