"""Safe reading of objects of unknown classes, and stand-ins for values that cannot be read.

Nothing is called but what its class says of itself on purpose: ``model_dump``, ``tolist``, ``isoformat``, ``__str__``.
All is looked up on the class, past any ``__getattr__``, so that a mock is never called.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from itertools import islice
from types import FunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import Any, Final

_ARRAY: Final = 1000  # numbers: the largest array that is written number by number
_CODE: Final = (FunctionType, WrapperDescriptorType, MethodDescriptorType)  # methods of Python, slots and methods of C
_BUILTIN: Final = (list, tuple, set, frozenset, deque)
_DUMPS: Final[tuple[dict[str, Any], ...]] = ({"mode": "json", "warnings": False}, {"warnings": False})
_LONGEST_INTEGER: Final = 4000  # bits: beyond that, Python may refuse to write one in decimal


def replace_surrogates(text: str) -> str:
    """Return *text* as valid Unicode: a lone surrogate becomes "?", as no exporter could encode it."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def as_text(value: Any) -> str:
    """Return the text of anything: *value* itself, its ``str``, or its type's name where that raises."""
    cls = type(value)
    if issubclass(cls, str):
        return replace_surrogates(value if cls is str else str.__str__(value))
    try:
        is_simple = issubclass(cls, (type, Enum, int)) and cls is not bool
        found = _simplify(value, cls, 0) if is_simple else _describe_object(value, cls)
        return replace_surrogates(found if type(found) is str else str(found))
    except (Exception, SystemExit):  # noqa: BLE001  # it is somebody else's code
        return _name_class(cls)


def simplify_object(value: object, most: int) -> object:
    """Return *value* one step nearer to JSON: its text, or what it holds, at most *most* items of it."""
    cls = type(value)
    try:
        return _simplify(value, cls, most)
    except (Exception, SystemExit):  # noqa: BLE001  # it is somebody else's code
        return _name_class(cls)


def _simplify(value: Any, cls: type, most: int) -> object:
    if issubclass(cls, type):
        return f"<{type.__dict__['__name__'].__get__(value)} class>"
    if issubclass(cls, Enum):
        return value._value_
    if (scalar := _convert_scalar(value, cls)) is not None:
        return scalar
    if issubclass(cls, (bytes, bytearray, memoryview)):
        return f"[{memoryview(value).nbytes} bytes]"
    if issubclass(cls, (date, time)):
        return value.isoformat()
    if (held := _list_held(value, cls, most)) is not None:
        return held
    if _defines(cls, "model_dump"):
        return _dump_model(value)
    if all(_defines(cls, name) for name in ("tolist", "shape", "dtype")):
        return _describe_array(value, cls)
    return _describe_object(value, cls)


def _list_held(value: Any, cls: type, most: int) -> object:
    """Return the items of a container; of Python's own, past what a subclass makes of them. None of anything else."""
    if issubclass(cls, dict):
        return dict(_convert_keys(islice(dict.items(value), most)))
    for base in _BUILTIN:
        if issubclass(cls, base):
            return list(islice(base.__iter__(value), most))
    if is_dataclass(cls):
        return {one.name: _read_field(value, one.name) for one in fields(cls)}
    if issubclass(cls, Mapping):
        return dict(_convert_keys(islice(value.items(), most)))
    return list(islice(value, most)) if issubclass(cls, AbstractSet) else None


def _convert_scalar(value: Any, cls: type) -> object:
    """Return the plain one of a scalar's subclass, whatever that makes of itself; None of anything else."""
    if issubclass(cls, str):
        return str.__str__(value)
    if issubclass(cls, float):
        return float.__float__(value)
    if issubclass(cls, int):
        whole = int.__int__(value)
        bits = whole.bit_length()
        if bits < 64:
            return whole
        return str(whole) if bits < _LONGEST_INTEGER else f"[an integer of {bits} bits]"
    return None


def _convert_keys(pairs: Any) -> Any:
    return ((as_text(key), item) for key, item in pairs)


def _read_field(value: object, name: str) -> object:
    try:
        return getattr(value, name)
    except (Exception, SystemExit):  # noqa: BLE001  # a property of its own, or one that was never set
        return "[not set]"


def _dump_model(value: Any) -> object:
    """Return pydantic's dump: it knows which fields are to stay out of one.

    Of a field that holds another type than it declares, as a server may answer, pydantic would warn the program.
    """
    for asked in _DUMPS:
        with suppress(Exception, SystemExit):  # a field that no JSON can say; a dump that takes no such argument
            return value.model_dump(**asked)
    return value.model_dump()


def _describe_array(value: Any, cls: type) -> object:
    shape = tuple(value.shape)
    return value.tolist() if math.prod(shape) <= _ARRAY else f"<{cls.__name__} {shape} {value.dtype}>"


def _describe_object(value: object, cls: type) -> str:
    """Return its ``str`` or ``repr``, if one of them is code rather than, say, a mock's; else its type's name."""
    for name in ("__str__", "__repr__"):
        own = find_on_class(cls, name)
        if own is not vars(object)[name] and isinstance(own, _CODE):
            said = own(value)
            return str.__str__(said) if isinstance(said, str) else _name_class(cls)
    return _name_class(cls)


def _name_class(cls: type) -> str:
    return f"<{type.__dict__['__name__'].__get__(cls)} object>"


def find_on_class(cls: type, name: str) -> object:
    """Return what *cls* or a class that it inherits from defines under *name*."""
    return next((vars(base)[name] for base in type.__dict__["__mro__"].__get__(cls) if name in vars(base)), None)


def _defines(cls: type, name: str) -> bool:
    return find_on_class(cls, name) is not None
