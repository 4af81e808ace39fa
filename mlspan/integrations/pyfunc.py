"""Predictions of MLflow's loaded models (pyfunc), with the logged model and the run that trained it."""

from __future__ import annotations

from typing import Any

from .._shape import dig
from ..hooks.hook import Call, Hook, methods
from ..tracing.operations.records import Record
from ._training.lineage import Origin
from ._training.predictions import prediction

__all__ = ["HOOK", "autolog"]


def _begin(call: Call) -> tuple[Record, None] | None:
    model = call.args[0]
    data: Any = call.args[1] if len(call.args) > 1 else call.kwargs.get("data")
    lineage = Origin(dig(model, "model_id", str), dig(model, "metadata.run_id", str))
    record = prediction("pyfunc", model, data, lineage)
    if record is None:
        return None
    flavors = dig(model, "metadata.flavors", dict) or {}
    loader = (flavors.get("python_function") or {}).get("loader_module", "")
    record.name = str(loader).removeprefix("mlflow.") or record.name
    return record, None


HOOK = Hook("mlflow-skinny>=3.6,<4", "mlflow.pyfunc", methods({"mlflow.pyfunc:PyFuncModel.predict": _begin}))
autolog = HOOK.autolog
