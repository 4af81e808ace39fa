"""The record of a training: what its span says of the model, its parameters and its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ..._guard import guard
from ...tracing.operations import semconv as sc
from ...tracing.operations.fields import span_attribute
from ...tracing.operations.records import NamedRecord

_MAX_PARAM_CHARS = 500  # characters of one parameter's value, which is MLflow's own limit


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
    run_id: str | None = span_attribute(sc.RUN_ID, "start")
    model_id: str | None = span_attribute(sc.MODEL_ID)

    @property
    def span_name(self) -> str:
        return f"fit {self.name}" if self.name else "fit"

    def set_params(self, params: Mapping[str, object]) -> None:
        """Set the parameters: numbers, booleans and None unchanged, everything else as text."""
        if not params:
            return
        plain = {str(name): _to_json_value(value) for name, value in params.items()}
        self.params = orjson.dumps(plain, default=str, option=orjson.OPT_NON_STR_KEYS).decode()

    def set_size(self, data: object) -> None:
        with guard("measuring the training data"):
            self.rows, self.features = measure_data(data)


def measure_data(data: Any) -> tuple[int | None, int | None]:
    """Return the numbers of rows and features of *data*, each None if unknown.

    *data* may be an array, a data frame, an XGBoost matrix, or anything that has a length.
    """
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple) and shape and all(isinstance(side, int) for side in shape):
        return shape[0], shape[1] if len(shape) > 1 else None
    if callable(getattr(data, "num_row", None)):
        return data.num_row(), data.num_col()
    return (len(data) if hasattr(data, "__len__") else None), None


def _to_json_value(value: object) -> object:
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    return str(value)[:_MAX_PARAM_CHARS]
