"""Readers of foreign objects, dicts or instances: each checks the type of a value, and raises nothing if it is missing.

Clients and frameworks change the shape of their objects between versions, so a value that is absent or of another type
is read as None.
"""

from __future__ import annotations

from collections import UserList, deque
from collections.abc import Iterable, Mapping
from itertools import compress, repeat
from math import isfinite
from operator import is_not
from typing import Any, Final, TypeVar

T = TypeVar("T")
_INT64 = range(-(2**63), 2**63)  # what an OpenTelemetry attribute can hold
MOST_COUNTED: Final = _INT64[-1]


def get_field(obj: object, name: str) -> Any:
    """Return item *name* of a dict or attribute *name* of any other object; None if there is none."""
    return obj.get(name) if isinstance(obj, dict) else getattr(obj, name, None)


def get_fields(obj: object) -> Mapping[str, Any]:
    """Return the fields of *obj*, a dict or a client's model, by name.

    The mapping includes pydantic's extra fields: those that a server sends and this version of the client does not
    declare. Looking up many names in it is faster than :func:`get_field`, most of all for names that a model lacks.
    """
    if isinstance(obj, dict):
        return obj
    if obj is None:
        return _NO_FIELDS
    known: Mapping[str, Any] | None = getattr(obj, "__dict__", None)
    if known is None:
        return _get_slots(obj)
    extra = getattr(obj, "__pydantic_extra__", None)
    return {**known, **extra} if extra else known


def get_told_fields(obj: object) -> dict[str, Any]:
    """Return the fields of *obj* that are not None, as :func:`get_fields` finds them.

    Of many fields that a model has, an answer tells few; the others take no step of the interpreter here.
    """
    return leave_out(get_fields(obj), None)


def leave_out(known: Mapping[str, Any], unwanted: object) -> dict[str, Any]:
    """Return *known* without the entries whose value is the object *unwanted*, such as a client's for "not given"."""
    return dict(compress(known.items(), map(is_not, known.values(), repeat(unwanted))))


_NO_FIELDS: Final[Mapping[str, Any]] = {}


def _get_slots(obj: object) -> Mapping[str, Any]:
    """Return the fields of an object of a class with ``__slots__``, such as a dataclass may have."""
    slots = [getattr(cls, "__slots__", ()) for cls in type(obj).__mro__]
    names = [name for one in slots for name in ([one] if isinstance(one, str) else one)]
    return {name: getattr(obj, name) for name in names if hasattr(obj, name)}


def get_text(known: Mapping[str, Any], name: str) -> str | None:
    """Return the string under *name*; None if it is missing, empty or no string."""
    found = known.get(name)
    return found if isinstance(found, str) and found else None


def get_integer(known: Mapping[str, Any], name: str) -> int | None:
    """Return the integer under *name*; None if it is missing, a bool, or does not fit into 64 bits."""
    found = known.get(name)
    if type(found) is int:
        return found if found in _INT64 else None
    is_count = isinstance(found, int) and found is not True and found is not False and int(found) in _INT64
    return found if is_count else None


def read_count(value: object) -> int | None:
    """Return a count, such as of tokens: *value* as an integer of 0 to 2**63 - 1; None if it is none.

    Servers write counts as floats, too. What is negative, a fraction, a text or a bool counts nothing.
    """
    if type(value) is int:
        return value if 0 <= value <= MOST_COUNTED else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and 0 <= value < MOST_COUNTED else None
    if isinstance(value, int) and not isinstance(value, bool):  # a subclass
        return read_count(int(value))
    return None


def get_count(known: Mapping[str, Any], name: str) -> int | None:
    """Return the count under *name*, as :func:`read_count` reads it; None if it is missing or none."""
    found = known.get(name)
    if type(found) is int:  # as nearly always
        return found if 0 <= found <= MOST_COUNTED else None
    return None if found is None else read_count(found)


def read_amount(value: object) -> float | None:
    """Return an amount of money as a float; None for what is none: negative, not finite, a text, or a bool."""
    if not is_a(value, (int, float)):
        return None
    amount = float(value)  # type: ignore[arg-type]  # it is a number
    return amount if amount >= 0 and isfinite(amount) else None


def find_known(values: Iterable[T | None]) -> T | None:
    """Return the first of *values* that is not None; None if there is none."""
    return next((value for value in values if value is not None), None)


def get_nested(obj: object, path: str, want: type[T]) -> T | None:
    """Return the value at a dotted *path*, or None if it is absent or not of type *want*.

    ``get_nested(response, "usage.prompt_tokens", int)`` reads dicts and objects alike, step by step. Types are
    compared as :func:`is_a` does.
    """
    if "." in path:
        *above, path = path.split(".")
        for name in above:
            obj = get_field(obj, name)
    found = obj.get(path) if isinstance(obj, dict) else getattr(obj, path, None)
    if want is str:  # without its own class: a (str, Enum) would be written by its name
        plain: Any = found if type(found) is str else str.__str__(found) if isinstance(found, str) else None
        return plain  # type: ignore[no-any-return]
    return found if isinstance(found, want) and is_a(found, want) else None


def is_a(value: object, want: type | tuple[type, ...]) -> bool:
    """Return whether *value* is of type *want*, where bools are no integers and integers fit into 64 bits.

    An OpenTelemetry attribute holds integers of 64 bits, signed; a larger one counts as no integer. A subclass of int
    is converted first, as a range would be searched for it number by number.
    """
    if not isinstance(value, int):
        return isinstance(value, want)
    return isinstance(value, want) and (want is bool if isinstance(value, bool) else int(value) in _INT64)


def list_items(value: object) -> list[Any]:
    """Return the items of a list, a tuple or the like, as clients take any in a request; anything else has none."""
    return list(value) if isinstance(value, _LISTS) else []


# What can be read twice, and runs no code of others when it is read.
_LISTS: Final[tuple[type[Iterable[Any]], ...]] = (list, tuple, deque, UserList, type({}.values()))


def list_texts(value: object) -> list[str]:
    """Return the texts among the items of a list or the like; anything else has none."""
    return [text for text in list_items(value) if isinstance(text, str)]


def get_list(obj: object, path: str) -> list[Any]:
    """Return the list at a dotted *path*, or an empty list."""
    return get_nested(obj, path, list) or []
