"""The size of texts, for those who must not import OpenTelemetry's SDK."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def sum_text(values: Iterable[Any]) -> int:
    """Return the length of all texts among *values*, counted in C, as it runs on the caller's thread too."""
    return sum(map(len, filter(str.__instancecheck__, values)))
