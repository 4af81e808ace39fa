"""Read foreign objects without trusting their shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_INT64 = range(-(2**63), 2**63)  # what an OpenTelemetry attribute can hold


def get(obj: object, name: str) -> Any:
    """What *obj*, a dict or an object, has under *name*; None if nothing."""
    return obj.get(name) if isinstance(obj, dict) else getattr(obj, name, None)


def fields(obj: object) -> Mapping[str, Any]:
    """What *obj*, a dict or a client's model, was made of, by name: many names are looked up in one dict for less
    than :func:`get` takes, above all those that a model lacks.
    """
    if isinstance(obj, dict):
        return obj
    known: Mapping[str, Any] = getattr(obj, "__dict__", _NOTHING)
    more = getattr(
        obj, "__pydantic_extra__", None
    )  # what the server says and this version of the client has no field for
    return {**known, **more} if more else known


_NOTHING: Mapping[str, Any] = {}


def text(known: Mapping[str, Any], name: str) -> str | None:
    """The text under *name*, if there is any."""
    found = known.get(name)
    return found if isinstance(found, str) and found else None


def whole(known: Mapping[str, Any], name: str) -> int | None:
    """The integer under *name*, if it is one that an attribute can hold."""
    found = known.get(name)
    return found if isinstance(found, int) and found is not True and found is not False and found in _INT64 else None


def dig(obj: object, path: str, want: type[T]) -> T | None:
    """``dig(r, "usage.prompt_tokens", int)``: the value at *path*, or None if it is absent or of another type."""
    if "." in path:
        *above, path = path.split(".")
        for name in above:
            obj = get(obj, name)
    found = obj.get(path) if isinstance(obj, dict) else getattr(obj, path, None)
    return found if isinstance(found, want) and (want is str or is_a(found, want)) else None


def is_a(value: object, want: type | tuple[type, ...]) -> bool:
    """As isinstance, but True is no integer, and neither is a number that no attribute can hold."""
    if not isinstance(value, int):
        return isinstance(value, want)
    return isinstance(value, want) and (value in _INT64 if not isinstance(value, bool) else want is bool)


def items(obj: object, path: str) -> list[Any]:
    """The list at *path*, or an empty one."""
    return dig(obj, path, list) or []
