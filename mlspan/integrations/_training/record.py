"""The record of a training: what its span says of the model, its parameters and its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from numbers import Integral
from os import PathLike
from typing import Any

import orjson

from ..._guard import guard
from ...tracing.operations import semconv as sc
from ...tracing.operations.fields import span_attribute
from ...tracing.operations.records import NamedRecord

_OWN_VERBS = frozenset({"cv", "partial_fit", "cross_val_score", "cross_validate", "cross_val_predict"})
_MAX_EVENTS = 100  # candidates or folds; the SDK keeps 128 events of a span
_MAX_PARAM_CHARS = 500  # characters of one parameter's value, which is MLflow's own limit
_MAX_PARAM_ROWS = 1000  # of an array that is a parameter; of larger ones the shape is said
_MAX_DEPTH = 4  # of lists in lists


class TrainingRecord(NamedRecord):
    """The record of a training.

    ``params`` and ``metrics`` are JSON objects. ``rows`` and ``features`` are the size of the training data.
    """

    type: str = span_attribute(sc.KIND, "start", default=sc.FIT)
    library: str | None = span_attribute(sc.FIT_LIBRARY, "start")
    name: str | None = span_attribute(sc.FIT_ESTIMATOR, "start")
    params: str | None = span_attribute(sc.FIT_PARAMS)
    rows: int | None = span_attribute(sc.FIT_ROWS)
    features: int | None = span_attribute(sc.FIT_FEATURES)
    epochs: int | None = span_attribute(sc.FIT_EPOCHS)
    metrics: str | None = span_attribute(sc.FIT_METRICS)
    best_params: str | None = span_attribute(sc.FIT_BEST_PARAMS)
    best_score: float | None = span_attribute(sc.FIT_BEST_SCORE)
    refit_time: float | None = span_attribute(sc.FIT_REFIT_TIME)
    candidates: int | None = span_attribute(sc.FIT_CANDIDATES)
    folds: int | None = span_attribute(sc.FIT_FOLDS)
    function: str = "fit"  # the name of the library's function
    events: list[tuple[str, dict[str, Any]]] | None = None  # names and attributes, of what the result tells
    run_id: str | None = span_attribute(sc.RUN_ID, "start")
    model_id: str | None = span_attribute(sc.MODEL_ID)

    @property
    def span_name(self) -> str:
        verb = self.function if self.function in _OWN_VERBS else "fit"
        return f"{verb} {self.name}" if self.name else verb

    def set_params(self, params: Mapping[str, object]) -> None:
        """Set the parameters: numbers, booleans and None unchanged, everything else as text."""
        if not params:
            return
        self.params = write_params(params)

    def add_candidates(self, candidates: Iterable[tuple[Mapping[str, object], Mapping[str, float]]]) -> None:
        """Add the candidates of a search, each with its parameters and scores, as events; the first ones of many."""
        found = list(candidates)
        self.candidates, self.events = len(found), []
        for number, (params, scores) in enumerate(found[:_MAX_EVENTS]):
            said = {sc.FIT_CANDIDATE: number, sc.FIT_PARAMS: write_params(params), **prefix_metrics(scores)}
            self.events.append((sc.FIT_CANDIDATE_EVENT, said))

    def add_folds(self, folds: Sequence[Mapping[str, float]]) -> None:
        """Add the scores of each fold of a cross-validation as events; the first ones of many."""
        self.folds = len(folds)
        self.events = [
            (sc.FIT_FOLD_EVENT, {sc.FIT_FOLD: number, **prefix_metrics(scores)})
            for number, scores in enumerate(folds[:_MAX_EVENTS])
        ]

    def set_size(self, data: object) -> None:
        with guard("measuring the training data"):
            self.rows, self.features = measure_data(data)


def write_params(params: Mapping[str, object]) -> str:
    """Return parameters as a JSON object: numbers, booleans and None unchanged, everything else as text."""
    plain = {str(name): _to_json_value(value) for name, value in params.items()}
    return orjson.dumps(plain, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def prefix_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics under the names that they have as attributes of an event."""
    return {sc.FIT_METRIC_PREFIX + name: float(value) for name, value in metrics.items()}


def measure_data(data: Any) -> tuple[int | None, int | None]:
    """Return the numbers of rows and features of *data*, each None if it is unknown without reading the data.

    *data* may be an array, a data frame, an XGBoost matrix, or anything that has a length. Data frames of Dask do not
    know their rows before they are computed, and those of Spark start a job to say them.
    """
    if isinstance(data, (str, bytes, PathLike)) or type(data).__module__.partition(".")[0] == "pyspark":
        return None, None
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple) and shape:
        rows, features = (side if isinstance(side, int) else None for side in (*shape, None)[:2])
        return rows, features
    if callable(getattr(data, "num_row", None)):
        return data.num_row(), data.num_col()
    if not hasattr(data, "__len__") or _is_list_of_tables(data):
        return None, None
    try:
        return len(data), None
    except TypeError:  # of TensorFlow's datasets, not all know their length
        return None, None


def _is_list_of_tables(data: object) -> bool:
    """Return whether *data* is a list of parts or of inputs, whose length is not that of the data."""
    return isinstance(data, (list, tuple)) and bool(data) and len(getattr(data[0], "shape", ())) > 1


def _to_json_value(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):  # NumPy's are floats, too, which orjson does not know
        return float(value)
    if isinstance(value, Integral) and abs(number := int(value)) < 2**53:
        return number
    return str(_cut_value(value))[:_MAX_PARAM_CHARS]


def _cut_value(value: Any, depth: int = 0) -> object:
    """Return what reads as *value* does in the characters that are kept, without a walk over all that it holds."""
    kind, shape = type(value), getattr(value, "shape", None)
    if kind in {bytes, bytearray}:
        return value[:_MAX_PARAM_CHARS]
    if kind in {list, tuple, set, frozenset} and depth < _MAX_DEPTH:
        return kind(_cut_value(one, depth + 1) for one in islice(value, _MAX_PARAM_CHARS))
    if kind is dict and depth < _MAX_DEPTH:
        return {key: _cut_value(one, depth + 1) for key, one in islice(value.items(), _MAX_PARAM_CHARS)}
    if isinstance(shape, tuple) and shape and isinstance(shape[0], int) and shape[0] > _MAX_PARAM_ROWS:
        return f"{kind.__name__} of shape {shape}"  # how much of an array is written is a setting of the program's
    return value
