"""XGBoost: ``xgboost.train`` and the estimators of its scikit-learn API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._training.hook import TrainingHook
from ._training.library import EpochResult, PatchPoint, TrainingLibrary
from ._training.record import TrainingRecord

__all__ = ["HOOK", "autolog"]


def _find_training_functions() -> Iterator[PatchPoint]:
    import xgboost

    yield xgboost, "train"
    yield xgboost, "cv"
    base = xgboost.sklearn.XGBModel
    for cls in vars(xgboost.sklearn).values():
        if isinstance(cls, type) and issubclass(cls, base) and cls is not base:
            yield cls, "fit"


def _find_prediction_methods() -> Iterator[PatchPoint]:
    import xgboost

    yield xgboost.Booster, "predict"
    for cls in vars(xgboost.sklearn).values():
        if isinstance(cls, type) and issubclass(cls, xgboost.sklearn.XGBModel):
            yield from ((cls, name) for name in ("predict", "predict_proba") if name in vars(cls))


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    if "dtrain" in call:
        fit.name = "Booster"
        fit.set_size(call["dtrain"])
        fit.set_params({**call.get("params", {}), "num_boost_round": call.get("num_boost_round", 10)})
    else:
        fit.set_size(call.get("X"))
        fit.set_params({name: value for name, value in call["self"].get_params().items() if value is not None})


def _read_boosting_round(args: tuple[Any, ...]) -> EpochResult:
    """Read a boosting round from the arguments of ``after_iteration(self, model, epoch, dtrain, evals)``.

    ``self.history`` is ``{data: {metric: [value of each round]}}``.
    """
    history = args[0].history
    last = {f"{data}-{name}": values[-1] for data, of in history.items() for name, values in of.items()}
    # In a cross-validation a value is the mean of the folds and its deviation.
    return args[2], {name: value[0] if isinstance(value, tuple) else value for name, value in last.items()}


HOOK = TrainingHook(
    "xgboost",
    "xgboost>=2.1,<4",
    ("xgboost",),
    TrainingLibrary(
        flavor="xgboost",
        find_training_functions=_find_training_functions,
        read_arguments=_read_training,
        find_prediction_methods=_find_prediction_methods,
        epoch_methods={"xgboost.callback:CallbackContainer.after_iteration": _read_boosting_round},
    ),
    frozenset({"importance_types", "model_format"}),
)
autolog = HOOK.autolog
