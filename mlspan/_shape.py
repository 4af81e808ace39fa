"""Read foreign objects without trusting their shape."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")
_INT64 = range(-(2**63), 2**63)  # what an OpenTelemetry attribute can hold


def get(obj: object, name: str) -> Any:
    """What *obj*, a dict or an object, has under *name*; None if nothing."""
    return obj.get(name) if isinstance(obj, dict) else getattr(obj, name, None)


def dig(obj: object, path: str, want: type[T]) -> T | None:
    """``dig(r, "usage.prompt_tokens", int)``: the value at *path*, or None if it is absent or of another type."""
    if "." in path:
        *above, path = path.split(".")
        for name in above:
            obj = get(obj, name)
    obj = get(obj, path)
    return obj if is_a(obj, want) else None  # type: ignore[return-value]  # is_a has just checked it


def is_a(value: object, want: type | tuple[type, ...]) -> bool:
    """As isinstance, but True is no integer, and neither is a number that no attribute can hold."""
    if not isinstance(value, want):
        return False
    return not isinstance(value, int) or (value in _INT64 if not isinstance(value, bool) else want is bool)


def items(obj: object, path: str) -> list[Any]:
    """The list at *path*, or an empty one."""
    return dig(obj, path, list) or []
