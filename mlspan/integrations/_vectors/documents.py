"""Documents that a search has found, in the form of the conventions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Final, TypedDict

__all__ = ["Document", "make_document"]

_TEXT_NAMES: Final = ("page_content", "text", "content", "chunk_text", "document", "body")


class Document(TypedDict, total=False):
    """A record that was found. *query* is the number of the search, where one call makes several."""

    id: str
    score: float
    distance: float
    content: object
    metadata: object
    query: int


def make_document(
    id: object,
    *,
    score: object = None,
    distance: object = None,
    content: object = None,
    metadata: object = None,
    query: int | None = None,
) -> Document:
    """Return a document. What the database does not tell is left out, but for id and score.

    The conventions demand both. A database that tells a distance has a score of 1 less the distance: the cosine of
    two vectors where that was measured, and for other distances a number that is greater for what is nearer. Without
    either the score is 0. Of *metadata*, what is usually called a text becomes the content, unless that is given.
    """
    if content is None and isinstance(metadata, Mapping):
        content, metadata = _split_text(metadata)
    told, far = _read_number(score), _read_number(distance)
    document: Document = {
        "id": "" if id is None else str(id),
        "score": told if told is not None else 1.0 - far if far is not None else 0.0,
    }
    others = {"distance": far, "content": content, "metadata": metadata or None, "query": query}
    document.update({name: one for name, one in others.items() if one is not None})  # type: ignore[typeddict-item]
    return document


def _read_number(value: object) -> float | None:
    """Return *value* as a number that JSON can say, or None."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _split_text(stored: Mapping[str, object]) -> tuple[object, Mapping[str, object]]:
    """Return the text among what is stored with a record, and the rest."""
    name = next((name for name in _TEXT_NAMES if isinstance(stored.get(name), str)), None)
    if name is None:
        return None, stored
    return stored[name], {other: value for other, value in stored.items() if other != name}
