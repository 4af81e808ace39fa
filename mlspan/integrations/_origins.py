"""Which logged model, and which training, a model in memory comes from."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import SpanContext


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from: a logged model, the run that trained it, and that training's span in this process."""

    model_id: str | None
    run_id: str | None
    span: SpanContext | None = None


_origins: dict[int, Origin] = {}  # by the id of a model that lives


def remember(model: Any, origin: Origin) -> None:
    """Know *model*, until it is collected, as what came from there; what takes no weak reference is not known."""
    try:
        weakref.finalize(model, _origins.pop, id(model), None).atexit = False
    except TypeError:
        return
    _origins[id(model)] = origin


def known(model: Any) -> Origin:
    """Where *model* comes from, as far as is known."""
    return _origins.get(id(model)) or Origin(None, None)
