"""Vectors are counted and measured, and left out of what is recorded; records that are written are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Final

from ..._shape import find_known, get_fields

_LONGEST_NUMBERS: Final = 32  # whole numbers in a row that may still be something else than a vector
_WIDEST: Final = 200  # items of a list that are looked through for vectors
_DEEPEST: Final = 8
_VECTOR_NAMES: Final = ("vector", "vectors", "embedding", "values")


class Vectors:
    """Vectors that were found in a request: how many there are, and how long the first one is.

    Args:
        dimension: how long vectors are, where that is known: a list of as many numbers is a vector.
    """

    def __init__(self, dimension: int | None = None) -> None:
        self.count = 0
        self.dimension = dimension

    def leave_out(self, value: object, depth: int = _DEEPEST) -> Any:
        """Return *value* with a word in the place of each vector and of each piece of binary data."""
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        if (shape := _find_shape(value)) is not None:
            return self._count_array(shape) if shape else value.item()  # type: ignore[attr-defined]  # a number of numpy's
        if isinstance(value, (bytes, bytearray, memoryview)):  # of a vector whose numbers have an unknown size
            self.count += 1
            return f"[{len(value)} bytes]"
        if depth == 0:
            return "[nested too deeply]"
        if isinstance(value, Sequence):  # protobuf and the array module have lists of their own
            return self._leave_out_of_list(value if isinstance(value, (list, tuple)) else list(value), depth - 1)
        known = value if isinstance(value, Mapping) else _read_model_fields(value)
        if known is None:
            return value
        if (size := _measure_sparse(known)) is not None:
            return self._count_array((size,))
        return {name: self.leave_out(one, depth - 1) for name, one in list(known.items())[:_WIDEST]}

    def _leave_out_of_list(self, value: list[Any] | tuple[Any, ...], depth: int) -> object:
        if self._is_vector(value):
            return self._count_array((len(value),))
        if value and all(isinstance(one, (list, tuple)) and self._is_vector(one) for one in (value[0], value[-1])):
            return self._count_array((len(value), len(value[0])))
        return [self.leave_out(one, depth) for one in value[:_WIDEST]]

    def _is_vector(self, value: list[object] | tuple[object, ...]) -> bool:
        """Return whether *value* holds numbers, and looks like a vector: so long, or with fractions."""
        if not value or not (_is_real_number(value[0]) and _is_real_number(value[-1])):
            return False
        if len(value) == self.dimension or len(value) > _LONGEST_NUMBERS:
            return True
        return len(value) > 1 and not all(isinstance(one, Integral) for one in value)

    def _count_array(self, shape: tuple[int, ...]) -> str:
        """Count what has the *shape* of an array, and return what stands for it."""
        many, size = shape[0] if len(shape) > 1 else 1, shape[-1] if shape else 1
        self.count += many
        self.dimension = self.dimension or size
        return f"[vector of {size} numbers]" if len(shape) <= 1 else f"[{many} vectors of {size} numbers]"


def _is_real_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _find_shape(value: object) -> tuple[int, ...] | None:
    """Return the shape of an array of numpy, torch, pyarrow, pgvector or the like; a table is no array."""
    shape = getattr(value, "shape", None)
    if shape is None and callable(getattr(type(value), "dimensions", None)):
        shape = (value.dimensions(),)  # type: ignore[attr-defined]  # it was just found
    if shape is None and hasattr(type(value), "to_numpy") and hasattr(value, "__len__"):
        shape = (len(value),)
    if not isinstance(shape, tuple) or hasattr(value, "columns"):
        return None
    return tuple(shape) if all(type(size) is int for size in shape) else None


def _measure_sparse(known: Mapping[Any, Any]) -> int | None:
    """Return how many numbers a sparse vector holds: by their places, or beside these; None for any other mapping."""
    indices, values = known.get("indices"), known.get("values")
    if indices is not None and values is not None and hasattr(values, "__len__"):
        return len(values)
    first = next(iter(known.items()), None)
    is_by_place = first is not None and isinstance(first[0], Integral) and _is_real_number(first[1])
    return len(known) if is_by_place else None


def _read_model_fields(value: object) -> Mapping[str, object] | None:
    """Return the fields of a request's model, of pydantic, msgspec or a dataclass; None for any other object."""
    cls: object = type(value)
    if (names := getattr(cls, "__struct_fields__", None)) is not None:
        known: Mapping[str, Any] = {name: getattr(value, name, None) for name in names}
    elif hasattr(cls, "model_fields") or hasattr(cls, "__dataclass_fields__"):
        known = get_fields(value)
    else:
        return None
    return {name: one for name, one in known.items() if one is not None}


def count_items(value: object) -> int | None:
    """Return how many records *value* holds: a list, array or table, or one; None for an iterator, and for nothing."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, Mapping)):
        return 1
    if isinstance(rows := getattr(value, "num_rows", None), int):
        return rows
    try:
        return len(value)  # type: ignore[arg-type]  # what has no length raises
    except TypeError:
        return None if hasattr(value, "__iter__") and not hasattr(type(value), "model_fields") else 1


def measure_first(value: object) -> int | None:
    """Return the length of the first vector among *value*: vectors, or records that hold one under a usual name."""
    for _ in range(4):
        if (shape := _find_shape(value)) is not None:
            return shape[-1] if shape else None
        if isinstance(value, (list, tuple)) and value:
            if _is_real_number(value[0]):
                return len(value)
            value = value[0]
        elif (known := value if isinstance(value, Mapping) else _read_model_fields(value)) is not None:
            named = (known.get(name) for name in _VECTOR_NAMES)
            value = find_known(named)
        else:
            return None
    return None
