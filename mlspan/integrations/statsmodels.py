"""statsmodels: the fit of every model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from .._private_names import report_missing_name
from .._shape import get_nested
from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.mlflow_logging import log_model_with_example
from ._training.record import TrainingRecord

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_SAVE_MODEL_CALLED_FROM_AUTOLOG": "nobody is warned of models that take long to store",
}

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

    with _warnings_of_size():
        rows = _read_example(call["self"], result)
        return log_model_with_example(mlflow.statsmodels.log_model, result, rows, result.predict, options)


def _read_example(model: Any, result: Any) -> Any:
    """Return the first rows as callers pass them to ``predict``; None if that takes no rows.

    A model of a formula takes the columns that the formula names, others take the regressors. A time series takes a
    range, by numbers or by dates: a signature would refuse one of the two.
    """
    from statsmodels.tsa.base.tsa_model import TimeSeriesModel

    if isinstance(model, TimeSeriesModel):
        return None
    if (formula := get_nested(model, "formula", str)) is not None:
        frame = get_nested(model, "data.frame", object)
        return None if frame is None else _select_columns(frame, formula, result)
    exog = _read_exog(model)
    return None if exog is None else exog[:5]


def _select_columns(frame: Any, formula: str, result: Any) -> Any:
    """Return the first rows of a data frame with those columns without which a model predicts something else."""
    rows, terms = frame[:5], formula.partition("~")[2]
    named = [name for name in frame.columns if re.search(rf"(?<!\w){re.escape(str(name))}(?!\w)", terms)]
    expected = result.predict(rows[named])
    for name in named:
        fewer = rows[[other for other in named if other != name]]
        with suppress(Exception):  # what a formula raises that lacks a variable
            if len(found := result.predict(fewer)) == len(rows) and found.equals(expected):
                rows = rows.drop(columns=name)
    return rows[[name for name in named if name in rows.columns]]


@contextmanager
def _warnings_of_size() -> Iterator[None]:
    """Have MLflow warn in the block of models that take long to store, as it does when it logs them itself."""
    import mlflow.statsmodels

    name = "_SAVE_MODEL_CALLED_FROM_AUTOLOG"
    by_autolog = getattr(mlflow.statsmodels, name, None)
    if by_autolog is None:
        report_missing_name("MLflow", name, PRIVATE_NAMES[name])
        yield
        return
    by_autolog.set(True)
    try:
        yield
    finally:
        by_autolog.set(False)


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
