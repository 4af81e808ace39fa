"""XGBoost: ``xgboost.train``, the estimators of its scikit-learn API, and those of both on Dask."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .._shape import get_nested
from ._training.dask_trainings import add_rounds, is_awaited, make_named_rows, make_rows
from ._training.hook import TrainingHook
from ._training.library import EpochResult, PatchPoint, TrainingLibrary
from ._training.mlflow_logging import log_model_with_example
from ._training.record import TrainingRecord

__all__ = ["HOOK", "autolog"]


_DASK: Final = "xgboost.dask"


def _find_training_functions() -> Iterator[PatchPoint]:
    import xgboost

    yield xgboost, "train"
    yield xgboost, "cv"
    base = xgboost.sklearn.XGBModel
    for cls in vars(xgboost.sklearn).values():
        if isinstance(cls, type) and issubclass(cls, base) and cls is not base:
            yield cls, "fit"


def _find_rank(_: tuple[Any, ...]) -> int:
    """Return the rank of this process among the workers that have joined, as those of Ray Train and of Spark have."""
    import xgboost.collective

    return int(xgboost.collective.get_rank())


def _find_dask_functions() -> Iterator[PatchPoint]:
    if (module := sys.modules.get(_DASK)) is not None:
        yield module, "train"
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == _DASK and callable(vars(cls).get("fit")):
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
        if fit.features is None and "client" in call:
            fit.features = call["dtrain"].num_col()
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


def _read_result(_: TrainingRecord, call: Mapping[str, Any], result: object) -> None:
    add_rounds(get_nested(result, "history", dict) or get_nested(call.get("self"), "evals_result_", dict))


def _log_dask_model(call: Mapping[str, Any], result: Any, options: Mapping[str, Any]) -> str | None:
    """Log what was trained on Dask as a model that needs no Dask."""
    import mlflow.xgboost

    data = call.get("dtrain")
    if data is not None:
        import xgboost

        model, rows = result["booster"], make_named_rows(getattr(data, "feature_names", None), data.num_col())

        def predict(rows: object) -> object:  # as MLflow does with a booster
            return model.predict(xgboost.DMatrix(rows))
    else:
        model, rows = _make_local(call["self"]), make_rows(call.get("X"), options)
        predict = model.predict
    chosen = {"model_format": found} if (found := options.get("model_format")) else {}
    return log_model_with_example(functools.partial(mlflow.xgboost.log_model, **chosen), model, rows, predict, options)


def _make_local(model: Any) -> Any:
    """Return the model of a class on Dask as one of XGBoost's own class for one machine."""
    import xgboost

    ours = next(cls for cls in type(model).__mro__ if cls.__module__ == _DASK)
    local = getattr(xgboost, ours.__name__.removeprefix("Dask"))()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.ubj")
        model.save_model(path)
        local.load_model(path)
    return local


HOOK = TrainingHook(
    "xgboost",
    "xgboost>=2.1,<4",
    ("xgboost", _DASK),
    TrainingLibrary(
        flavor="xgboost",
        find_training_functions=_find_training_functions,
        find_rank=_find_rank,
        find_unlogged_functions=_find_dask_functions,
        read_arguments=_read_training,
        trains_later=is_awaited,
        read_result=_read_result,
        log_model=_log_dask_model,
        find_prediction_methods=_find_prediction_methods,
        epoch_methods={"xgboost.callback:CallbackContainer.after_iteration": _read_boosting_round},
    ),
    frozenset({"importance_types", "model_format"}),
)
autolog = HOOK.autolog
