"""Read foreign objects without trusting their shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_INT64 = range(-(2**63), 2**63)  # what an OpenTelemetry attribute can hold


def get(obj: object, name: str) -> Any:
    """What *obj*, a dict or an object, has under *name*; None if nothing."""
    return obj.get(name) if isinstance(obj, dict) else getattr(obj, name, None)


def dig(obj: object, path: str, want: type[T]) -> T | None:
    """``dig(r, "usage.prompt_tokens", int)``: the value at *path*, or None if it is absent or of another type."""
    for name in path.split("."):
        obj = get(obj, name)
    return obj if is_a(obj, want) else None  # type: ignore[return-value]  # is_a has just checked it


def is_a(value: object, want: type | tuple[type, ...]) -> bool:
    """As isinstance, but True is no integer, and neither is a number that no attribute can hold."""
    if isinstance(value, int):
        return isinstance(value, want) and (want is bool or (not isinstance(value, bool) and value in _INT64))
    return isinstance(value, want)


def items(obj: object, path: str) -> list[Any]:
    """The list at *path*, or an empty one."""
    return dig(obj, path, list) or []


def take(params: Mapping[str, Any], **want: type | tuple[type, ...]) -> dict[str, Any]:
    """The named *params* that the caller really sent, of the wanted type: no sentinel, no invented default."""
    return {name: params[name] for name, kind in want.items() if name in params and is_a(params[name], kind)}
