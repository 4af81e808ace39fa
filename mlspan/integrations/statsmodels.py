"""statsmodels: the fit of every model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._shape import get_nested
from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.mlflow_logging import log_model_with_example
from ._training.record import TrainingRecord

__all__ = ["HOOK", "autolog"]


def _find_training_functions() -> Iterator[PatchPoint]:
    import statsmodels.api  # imports the modules that define the models

    found = [statsmodels.base.model.Model]
    for cls in found:
        found += [sub for sub in cls.__subclasses__() if sub not in found]
        if "fit" in vars(cls):
            yield cls, "fit"


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    model = call["self"]
    exog = getattr(model, "exog", None)
    fit.set_size(model.endog if exog is None else exog)
    fit.set_params({name: value for name, value in call.items() if name != "self"})


def _read_endog_and_exog(call: Mapping[str, Any]) -> tuple[object, object] | None:
    model = call["self"]
    exog = _read_exog(model)
    return (model.endog, None) if exog is None else (exog, model.endog)


def _find_prediction_methods() -> Iterator[PatchPoint]:
    from statsmodels.base.model import Results

    yield Results, "predict"


def _read_exog(model: object) -> Any:
    """Return the regressors as the caller gave them, an array or a data frame; None if the model has none."""
    exog = get_nested(model, "data.orig_exog", object)
    return getattr(model, "exog", None) if exog is None else exog


def _log_model(call: Mapping[str, object], result: Any, options: Mapping[str, object]) -> str | None:
    import mlflow.statsmodels

    exog = _read_exog(call["self"])
    rows = None if exog is None else exog[:5]
    return log_model_with_example(mlflow.statsmodels.log_model, result, rows, result.predict, options)


HOOK = TrainingHook(
    "statsmodels",
    "statsmodels>=0.14,<0.16",
    ("statsmodels",),
    TrainingLibrary(
        flavor="statsmodels",
        find_training_functions=_find_training_functions,
        read_arguments=_read_training,
        find_prediction_methods=_find_prediction_methods,
        log_model=_log_model,
        read_data=_read_endog_and_exog,
        added_options=frozenset({"log_input_examples", "log_model_signatures"}),
    ),
)
autolog = HOOK.autolog
