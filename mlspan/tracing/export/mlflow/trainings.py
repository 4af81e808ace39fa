"""Inputs and outputs of trainings, searches and predictions in MLflow's viewer, which tell at a glance what was made.

Inputs are the data and the parameters; outputs begin with the best of a search and end with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ...operations import semconv as sc
from ..dialects.dialect import list_values, parse_attribute

Attributes = Mapping[str, Any]
Fields = Iterable[tuple[str, Any]]  # names in the viewer and values; None is left out


def describe_training(attributes: Attributes) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return inputs and outputs of a span by its kind; None where there is nothing to say."""
    readers = _READERS.get(str(attributes.get(sc.KIND)))
    if readers is None:
        return None, None
    inputs, outputs = ({name: it for name, it in read(attributes) if it is not None} for read in readers)
    return inputs or None, outputs or None


def _read_training_inputs(attributes: Attributes) -> Fields:
    yield "data", _describe_data(attributes)
    yield "parameters", parse_attribute(attributes.get(sc.FIT_PARAMS))


def _read_training_outputs(attributes: Attributes) -> Fields:
    yield from _read_search_outputs(attributes)
    yield "epochs", attributes.get(sc.FIT_EPOCHS)
    yield "metrics", parse_attribute(attributes.get(sc.FIT_METRICS))
    yield "model", _name_model(attributes.get(sc.MODEL_ID))


def _read_search_inputs(attributes: Attributes) -> Fields:
    yield "directions", list_values(attributes.get(sc.SEARCH_DIRECTIONS)) or None


def _read_search_outputs(attributes: Attributes) -> Fields:
    yield "best_score", attributes.get(sc.FIT_BEST_SCORE)
    yield "best_parameters", parse_attribute(attributes.get(sc.FIT_BEST_PARAMS))
    yield "candidates", attributes.get(sc.FIT_CANDIDATES)
    yield "pruned", attributes.get(sc.SEARCH_PRUNED)
    yield "failed", attributes.get(sc.SEARCH_FAILED)


def _read_prediction_inputs(attributes: Attributes) -> Fields:
    yield "data", _describe_data(attributes)
    yield "model", _name_model(attributes.get(sc.MODEL_ID))


def _read_logged(attributes: Attributes) -> Fields:
    yield "models", [_name_model(one) for one in list_values(attributes.get(sc.LOG_MODELS))] or None
    yield "files", list_values(attributes.get(sc.LOG_FILES)) or None
    yield "failed", list_values(attributes.get(sc.LOG_FAILED)) or None


def _read_nothing(_: Attributes) -> Fields:
    return ()


_READERS: Final[Mapping[str, tuple[Callable[[Attributes], Fields], Callable[[Attributes], Fields]]]] = {
    sc.FIT: (_read_training_inputs, _read_training_outputs),
    sc.TRIAL: (_read_training_inputs, _read_training_outputs),
    sc.SEARCH: (_read_search_inputs, _read_search_outputs),
    sc.PREDICT: (_read_prediction_inputs, _read_nothing),
    sc.LOG: (_read_nothing, _read_logged),
}


def _name_model(model_id: object) -> str | None:
    """Return the address by which MLflow loads a logged model."""
    return None if model_id is None else f"models:/{model_id}"


def _describe_data(attributes: Attributes) -> str | None:
    sides = ((attributes.get(sc.FIT_ROWS), "row"), (attributes.get(sc.FIT_FEATURES), "feature"))
    return ", ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in sides if count is not None) or None
