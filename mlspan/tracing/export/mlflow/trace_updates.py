"""Updates of a trace by MLflow's functions while it was open: they count over what the spans say themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from ...operations import semconv as sc
from ..dialects.dialect import parse_attribute


def read_updates(spans: Sequence[ReadableSpan]) -> Mapping[str, Any]:
    """Return what has been written: ``tags``, ``metadata`` and single values. What is written later counts.

    A span tells all that was written to its trace until it ended, so the span that ended last knows most.
    """
    told: dict[str, Any] = {"tags": {}, "metadata": {}}
    for span in sorted(
        (span for span in spans if sc.TRACE_UPDATE in (span.attributes or {})), key=lambda span: span.end_time or 0
    ):
        update = parse_attribute((span.attributes or {})[sc.TRACE_UPDATE])
        if isinstance(update, dict):
            for key, value in update.items():
                told[key] = {**told[key], **value} if key in {"tags", "metadata"} and isinstance(value, dict) else value
    return told if told["tags"] or told["metadata"] or len(told) > 2 else {}
