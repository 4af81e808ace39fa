"""Lineage of models in memory: the logged model, the run and the training that each comes from."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from opentelemetry.trace import SpanContext


@dataclass(frozen=True, slots=True)
class ModelLineage:
    """The lineage of a model: the logged model, the run that trained it, and the span of that training.

    ``span`` is None if the model was trained in another process.
    """

    model_id: str | None
    run_id: str | None
    span: SpanContext | None = None


_lineages: dict[int, ModelLineage] = {}  # by id() of each live model


def remember_lineage(model: object, lineage: ModelLineage) -> None:
    """Keep the lineage of *model* until the model is garbage-collected.

    A model that does not support weak references is not kept.
    """
    try:
        weakref.finalize(model, _lineages.pop, id(model), None).atexit = False
    except TypeError:
        return
    _lineages[id(model)] = lineage


def find_lineage(model: object) -> ModelLineage:
    """Return the lineage of *model*; all of its fields are None if it is unknown."""
    return _lineages.get(id(model)) or ModelLineage(None, None)
