"""Strands Agents: the conventions, with cycles of its event loop between an agent and its calls."""

from __future__ import annotations

from typing import Final

from ...operations import semconv as sc
from .dialect import Dialect, ForeignSpan, JsonObject

_CYCLE: Final = "execute_event_loop_cycle"
_ITSELF: Final = "strands-agents"  # what it names as the provider of every model


def _correct(span: ForeignSpan) -> JsonObject:
    found: JsonObject = {}
    if span.get(sc.OPERATION) == _CYCLE or span.name == _CYCLE:
        found |= {sc.OPERATION: None, sc.KIND: "task"}
    if _ITSELF in {span.get(sc.PROVIDER), span.get("gen_ai.system")}:
        found[sc.PROVIDER] = None
    return found


STRANDS: Final = Dialect(scopes=("strands.",), correct=_correct)
