"""statsmodels: the fit of every model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._shape import dig
from ._training.hook import FitHook
from ._training.library import Library, Seam
from ._training.mlflow_logging import log_with
from ._training.record import Fit

__all__ = ["HOOK", "autolog"]


def _seams() -> Iterator[Seam]:
    import statsmodels.api  # noqa: F401  # imports the modules that define the models
    from statsmodels.base.model import Model

    found = [Model]
    for cls in found:
        found += [sub for sub in cls.__subclasses__() if sub not in found]
        if "fit" in vars(cls):
            yield cls, "fit"


def _read(fit: Fit, call: Mapping[str, Any]) -> None:
    model = call["self"]
    exog = getattr(model, "exog", None)
    fit.set_size(model.endog if exog is None else exog)
    fit.set_params({name: value for name, value in call.items() if name != "self"})


def _data(call: Mapping[str, Any]) -> tuple[Any, Any] | None:
    model = call["self"]
    exog = _exog(model)
    return (model.endog, None) if exog is None else (exog, model.endog)


def _predicts() -> Iterator[Seam]:
    from statsmodels.base.model import Results

    yield Results, "predict"


def _exog(model: Any) -> Any:
    """Return the regressors as the caller gave them, an array or a data frame; None if the model has none."""
    exog = dig(model, "data.orig_exog", object)
    return getattr(model, "exog", None) if exog is None else exog


def _log_model(call: Mapping[str, Any], result: Any, options: Mapping[str, Any]) -> str | None:
    import mlflow.statsmodels

    exog = _exog(call["self"])
    rows = None if exog is None else exog[:5]
    return log_with(mlflow.statsmodels.log_model, result, rows, result.predict, options)


HOOK = FitHook(
    "statsmodels",
    "statsmodels>=0.14,<0.16",
    ("statsmodels",),
    Library(
        flavor="statsmodels",
        seams=_seams,
        read=_read,
        predicts=_predicts,
        log_model=_log_model,
        data=_data,
        adds=frozenset({"log_input_examples", "log_model_signatures"}),
    ),
)
autolog = HOOK.autolog
