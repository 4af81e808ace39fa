"""Predictions of trained models, recorded inside of a trace only.

The span of a prediction carries the logged model and the run that trained it, and links to the training's span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_current_span

from ...hooks.call import Begin, Call
from ...hooks.hook import Hook
from ...hooks.patching import Undo, trace_function
from ...tracing.operations import semconv as sc
from ...tracing.operations.fields import span_attribute
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.records import NamedRecord
from .current import current_training
from .lineage import ModelLineage, find_lineage
from .patch_points import wrap_patch_point
from .record import measure_data

if TYPE_CHECKING:
    from .library import PatchPoint


class PredictionRecord(NamedRecord):
    """The record of one prediction: a call of a trained model."""

    type: str = span_attribute(sc.KIND, "start", default=sc.PREDICT)
    name: str | None = span_attribute(sc.FIT_ESTIMATOR, "start")
    library: str | None = span_attribute(sc.FIT_LIBRARY, "start")
    rows: int | None = span_attribute(sc.FIT_ROWS, "start")
    run_id: str | None = span_attribute(sc.RUN_ID, "start")
    model_id: str | None = span_attribute(sc.MODEL_ID, "start")

    @property
    def span_name(self) -> str:
        return f"predict {self.name}"


def make_prediction_record(
    library: str, model: Any, data: object, lineage: ModelLineage | None = None
) -> PredictionRecord | None:
    """Return the record of a prediction, or None if it is not to be recorded.

    A prediction is recorded inside of a trace, but not inside of a training or of another prediction.

    Args:
        library: mlspan's name for the library.
        model: the model that predicts.
        data: its input, of which the number of rows is recorded.
        lineage: where the model comes from; None looks it up.
    """
    around = get_current_span()
    if not around.is_recording() or current_training() is not None:
        return None
    if (getattr(around, "attributes", None) or {}).get(sc.KIND) == sc.PREDICT:
        return None
    lineage = lineage or find_lineage(model)
    record = PredictionRecord(
        library=library, name=type(model).__name__, run_id=lineage.run_id, model_id=lineage.model_id
    )
    record.rows = measure_data(data)[0]
    if lineage.span is not None:
        record.add_cause("trained_by", lineage.span)
    return record


def trace_predictions(hook: Hook, library: str, method: PatchPoint) -> Undo:
    """Record a span for each call of the prediction method *method*; return the undo.

    Args:
        hook: the hook whose settings apply.
        library: mlspan's name for the library.
        method: a class and the name of its prediction method.
    """
    start_operation = hook.make_starter(_make_begin(library))

    def wrap_prediction(fn: Any, on: list[bool]) -> object:
        start_outside = start_operation.bind_function(fn)

        def start(args: object, kwargs: object) -> Any:
            # MLflow predicts several times after each training: whether that would be sampled is not worth deciding.
            return NOOP_OPERATION if current_training() is not None else start_outside(args, kwargs)

        return trace_function(fn, start, on)

    return wrap_patch_point(*method, wrap_prediction)


def _make_begin(library: str) -> Begin:
    def begin(call: Call) -> tuple[Any, None] | None:
        data = call.args[1] if len(call.args) > 1 else next(iter(call.kwargs.values()), None)
        record = make_prediction_record(library, call.args[0], data)
        return None if record is None else (record, None)

    return begin
