"""Readers of tensors and of other data that is no text: shapes, counts and kinds, never the values."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from ..._shape import get_field, is_a

__all__ = ["count_tokens", "describe", "find_text_ids", "read_shape"]


def read_shape(value: object) -> tuple[int, ...] | None:
    """Return the shape of a tensor or an array; None for anything else."""
    shape = getattr(value, "shape", None)
    return tuple(shape) if isinstance(shape, tuple) and all(is_a(one, int) for one in shape) else None


def find_text_ids(*values: object) -> Any:
    """Return the first of *values* that holds ids of tokens, a row for each text; None if none does."""
    return next((value for value in values if len(read_shape(value) or ()) == 2 and _holds_integers(value)), None)


def _holds_integers(tensor: object) -> bool:
    return getattr(getattr(tensor, "dtype", None), "is_floating_point", True) is False


def count_tokens(ids: Any, mask: Any = None, padding: Container[int] = ()) -> int | None:
    """Return how many tokens *ids* has, without padding; None if it is no tensor with a row for each text.

    Args:
        ids: ids of tokens, or their embeddings.
        mask: 1 for a token and 0 for padding.
        padding: ids that are padding, where there is no mask.
    """
    shape = read_shape(ids)
    if shape is None or len(shape) < 2:
        return None
    if (read_shape(mask) or ())[:2] == shape[:2]:
        return int((mask != 0).sum())
    if padding and len(shape) == 2:
        return sum(id not in padding for row in ids.tolist() for id in row)
    return shape[0] * shape[1]


def describe(value: object) -> object:
    """Return *value* with each picture, sound and tensor in it as text that says what it is, and how large."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): describe(one) for name, one in value.items()}
    if (shape := read_shape(value)) == () and hasattr(value, "item"):
        return describe(value.item())
    kind = type(value).__name__
    if kind == "SquadExample":  # of version 4, of what a question is about
        return {name: get_field(value, f"{name}_text") for name in ("question", "context")}
    if isinstance(value, (bytes, bytearray)):
        return f"[{len(value)} bytes]"
    size = shape if shape is not None else get_field(value, "size")  # of a picture: width and height
    return f"[{kind} {' x '.join(map(str, size))}]" if isinstance(size, tuple) else f"[{kind}]"
