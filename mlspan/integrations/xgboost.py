"""XGBoost: ``xgboost.train`` and the estimators of its scikit-learn API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._training.hook import FitHook
from ._training.library import Epoch, Library, Seam
from ._training.record import Fit

__all__ = ["HOOK", "autolog"]


def _seams() -> Iterator[Seam]:
    import xgboost
    from xgboost import sklearn

    yield xgboost, "train"
    for cls in vars(sklearn).values():
        if isinstance(cls, type) and issubclass(cls, sklearn.XGBModel) and cls is not sklearn.XGBModel:
            yield cls, "fit"


def _predicts() -> Iterator[Seam]:
    import xgboost

    yield xgboost.Booster, "predict"
    for cls in vars(xgboost.sklearn).values():
        if isinstance(cls, type) and issubclass(cls, xgboost.sklearn.XGBModel):
            yield from ((cls, name) for name in ("predict", "predict_proba") if name in vars(cls))


def _read(fit: Fit, call: Mapping[str, Any]) -> None:
    if "dtrain" in call:
        fit.name = "Booster"
        fit.set_size(call["dtrain"])
        fit.set_params({**call.get("params", {}), "num_boost_round": call.get("num_boost_round", 10)})
    else:
        fit.set_size(call.get("X"))
        fit.set_params({name: value for name, value in call["self"].get_params().items() if value is not None})


def _epoch(args: tuple[Any, ...]) -> Epoch:
    """Read a boosting round from the arguments of ``after_iteration(self, model, epoch, dtrain, evals)``.

    ``self.history`` is ``{data: {metric: [value of each round]}}``.
    """
    history = args[0].history
    return args[2], {f"{data}-{name}": values[-1] for data, of in history.items() for name, values in of.items()}


HOOK = FitHook(
    "xgboost",
    "xgboost>=2.1,<4",
    ("xgboost",),
    Library(
        flavor="xgboost",
        seams=_seams,
        read=_read,
        predicts=_predicts,
        epochs={"xgboost.callback:CallbackContainer.after_iteration": _epoch},
    ),
    frozenset({"importance_types", "model_format"}),
)
autolog = HOOK.autolog
