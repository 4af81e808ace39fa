"""The attributes that hold what an operation was given and what came of it: the names for all receivers follow them.

``tests/test_record_content.py`` fails where it lacks the content of a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..operations import semconv as sc

INPUT_OUTPUT_PAIRS: Final = (
    (sc.INPUT_MESSAGES, sc.OUTPUT_MESSAGES),
    (sc.TOOL_CALL_ARGUMENTS, sc.TOOL_CALL_RESULT),
    (sc.RETRIEVAL_QUERY, sc.RETRIEVAL_DOCUMENTS),
    (sc.MEMORY_QUERY, sc.MEMORY_RECORDS),
    (sc.INPUT, sc.OUTPUT),
)
_SIDES: Final = (
    ("input", [asked for asked, _ in INPUT_OUTPUT_PAIRS]),
    ("output", [answered for _, answered in INPUT_OUTPUT_PAIRS]),
)


def read_sides(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield "input" and "output", as far as a span has them, each with what stands there."""
    for side, names in _SIDES:
        value = next((attributes[name] for name in names if name in attributes), None)
        if value is not None:
            yield side, value
