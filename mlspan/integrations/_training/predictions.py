"""Predictions of trained models, recorded inside of a trace only.

The span of a prediction carries the logged model and the run that trained it, and links to the training's span.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from opentelemetry.trace import SpanContext, get_current_span

from ...hooks.hook import Begin, Call, Hook
from ...hooks.patching import Undo, watched
from ...tracing.operations import semconv as sc
from ...tracing.operations.fields import attr
from ...tracing.operations.records import Named
from .lineage import Origin, known
from .patch_points import wrap
from .record import size
from .training import current

if TYPE_CHECKING:
    from .library import Seam


class Predict(Named):
    """The record of one prediction: a call of a trained model."""

    linked: ClassVar[bool] = True
    type: str = attr(sc.KIND, "start", default=sc.PREDICT)
    name: str | None = attr(sc.FIT_ESTIMATOR, "start")
    library: str | None = attr(sc.FIT_LIBRARY, "start")
    rows: int | None = attr(sc.FIT_ROWS, "start")
    run_id: str | None = attr(sc.RUN_ID, "start")
    model_id: str | None = attr(sc.MODEL_ID, "start")
    trained: SpanContext | None = None

    @property
    def span_name(self) -> str:
        return f"predict {self.name}"

    def causes(self) -> Mapping[str, SpanContext]:
        return {} if self.trained is None else {"trained_by": self.trained}


def prediction(library: str, model: Any, data: Any, lineage: Origin | None = None) -> Predict | None:
    """Return the record of a prediction, or None if it is not to be recorded.

    A prediction is recorded inside of a trace, but not inside of a training or of another prediction.

    Args:
        library: mlspan's name for the library.
        model: the model that predicts.
        data: its input, of which the number of rows is recorded.
        lineage: where the model comes from; None looks it up.
    """
    around = get_current_span()
    if not around.is_recording() or current() is not None:
        return None
    if (getattr(around, "attributes", None) or {}).get(sc.KIND) == sc.PREDICT:
        return None
    lineage = lineage or known(model)
    record = Predict(library=library, name=type(model).__name__, run_id=lineage.run_id, model_id=lineage.model_id)
    record.rows, record.trained = size(data)[0], lineage.span
    return record


def watch_predictions(hook: Hook, library: str, method: Seam) -> Undo:
    """Record a span for each call of the prediction method *method*; return the undo.

    Args:
        hook: the hook whose settings apply.
        library: mlspan's name for the library.
        method: a class and the name of its prediction method.
    """
    open_ = functools.partial(hook.open, _begin(library))
    return wrap(*method, lambda fn, on: watched(fn, open_, on))


def _begin(library: str) -> Begin:
    def begin(call: Call) -> tuple[Any, None] | None:
        data = call.args[1] if len(call.args) > 1 else next(iter(call.kwargs.values()), None)
        record = prediction(library, call.args[0], data)
        return None if record is None else (record, None)

    return begin
