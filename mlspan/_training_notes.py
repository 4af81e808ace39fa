"""Notes on trainings in a cell's summary: the size of the data, the score and the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import orjson
from opentelemetry.sdk.trace import ReadableSpan

from .tracing.operations import semconv as sc

_SCORE: Final = "training_score"  # scikit-learn's own, of all that MLflow measures

_COUNTS: Final = {
    sc.FIT_ROWS: "row",
    sc.FIT_FEATURES: "feature",
    sc.FIT_CANDIDATES: "candidate",
    sc.FIT_EPOCHS: "epoch",
}


class LoggedModel(NamedTuple):
    """A model that was logged for a training: its id, the name of the training's span, and its run."""

    model_id: str
    training: str
    run_id: Any


def describe_training(attributes: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a line says of a training, a search or a prediction; nothing of another span."""
    get, kind = attributes.get, attributes.get(sc.KIND)
    if kind not in {sc.FIT, sc.SEARCH, sc.TRIAL, sc.PREDICT}:
        return
    for name, word in _COUNTS.items():
        if (count := get(name)) is not None:
            yield f"{count} {word}{'s' * (count != 1)}"
    if kind == sc.PREDICT and (model_id := get(sc.MODEL_ID)) is not None:
        yield str(model_id)
    if kind != sc.PREDICT and (score := _find_score(attributes)) is not None:
        yield score


def _find_score(attributes: Mapping[str, Any]) -> str | None:
    """Return the one number that says most: the best of a search, its own score, or the last metric by name."""
    if isinstance(best := attributes.get(sc.FIT_BEST_SCORE), (int, float)):
        return f"best_score {best:.4g}"
    try:
        metrics = orjson.loads(attributes.get(sc.FIT_METRICS) or "{}")
    except orjson.JSONDecodeError:
        return None
    numbers = {name: value for name, value in dict(metrics or {}).items() if isinstance(value, (int, float))}
    if not numbers:
        return None
    name = _SCORE if _SCORE in numbers else [*numbers][-1]
    return f"{name} {numbers[name]:.4g}"


def list_models(traces: Iterable[Sequence[ReadableSpan]]) -> Iterator[LoggedModel]:
    """Yield the models that were logged for the trainings in *traces*."""
    for span in chain.from_iterable(traces):
        attributes = span.attributes or {}
        if attributes.get(sc.KIND) == sc.FIT and attributes.get(sc.MODEL_ID) is not None:
            yield LoggedModel(str(attributes[sc.MODEL_ID]), span.name, attributes.get(sc.RUN_ID))
