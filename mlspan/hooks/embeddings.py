"""Reader of the vectors that a model for embeddings returns."""

from __future__ import annotations

from collections.abc import Mapping

from .._shape import is_a
from ..tracing.operations.records import Embeddings


def observe_vectors(record: Embeddings, vectors: object) -> None:
    """Read the number of dimensions of one vector or several, lists or arrays.

    A sparse vector is a dict, and has no number of dimensions.
    """
    first = vectors[0] if isinstance(vectors, (list, tuple)) and vectors else None
    vector: object = vectors if is_a(first, (int, float)) else first
    if hasattr(vector, "__len__") and not isinstance(vector, Mapping):
        record.dimensions = len(vector)
