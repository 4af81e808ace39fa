"""Predictions of MLflow's loaded models (pyfunc), with the logged model and the run that trained it."""

from __future__ import annotations

from .._shape import get_nested
from ..hooks.call import Call
from ..hooks.hook import Hook, trace_methods
from ..tracing.operations.records import Record
from ._training.lineage import ModelLineage
from ._training.predictions import make_prediction_record

__all__ = ["HOOK", "autolog"]


def _begin_prediction(call: Call) -> tuple[Record, None] | None:
    model = call.args[0]
    data: object = call.args[1] if len(call.args) > 1 else call.kwargs.get("data")
    lineage = ModelLineage(get_nested(model, "model_id", str), get_nested(model, "metadata.run_id", str))
    record = make_prediction_record("pyfunc", model, data, lineage)
    if record is None:
        return None
    flavors = get_nested(model, "metadata.flavors", dict) or {}
    loader = (flavors.get("python_function") or {}).get("loader_module", "")
    record.name = str(loader).removeprefix("mlflow.") or record.name
    return record, None


HOOK = Hook(
    "mlflow-skinny>=3.6,<4", "mlflow.pyfunc", trace_methods({"mlflow.pyfunc:PyFuncModel.predict": _begin_prediction})
)
autolog = HOOK.autolog
