"""LightGBM: ``lightgbm.train``, the estimators of its scikit-learn API, and those on Dask."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._shape import get_nested
from ..hooks.patching import Patch, Undo, apply_patches, replace_function
from ._training.current import current_training
from ._training.dask_trainings import add_rounds, is_awaited, make_rows
from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.mlflow_logging import log_model_with_example
from ._training.record import TrainingRecord

__all__ = ["HOOK", "autolog"]


_DASK: Final = "lightgbm.dask"


def _find_training_functions() -> Iterator[PatchPoint]:
    import lightgbm

    yield lightgbm, "train"
    yield lightgbm, "cv"
    for cls in vars(lightgbm.sklearn).values():
        if isinstance(cls, type) and issubclass(cls, lightgbm.LGBMModel):
            yield cls, "fit"


def _find_dask_functions() -> Iterator[PatchPoint]:
    """Yield the estimators on Dask; LightGBM imports their module with itself, where Dask is installed or not."""
    for cls in vars(sys.modules.get(_DASK, object)).values():
        if isinstance(cls, type) and cls.__module__ == _DASK and callable(vars(cls).get("fit")):
            yield cls, "fit"


def _find_prediction_methods() -> Iterator[PatchPoint]:
    import lightgbm

    yield lightgbm.Booster, "predict"
    for cls in vars(lightgbm.sklearn).values():
        if isinstance(cls, type) and issubclass(cls, lightgbm.LGBMModel):
            yield from ((cls, name) for name in ("predict", "predict_proba") if name in vars(cls))


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    if "train_set" in call:
        fit.name = "Booster"
        fit.set_size(call["train_set"].data)
        fit.set_params({**call.get("params", {}), "num_boost_round": call.get("num_boost_round", 100)})
    else:
        fit.set_size(call.get("X"))
        params = call["self"].get_params()
        fit.set_params({name: value for name, value in params.items() if name != "client"})  # Dask's, no parameter


def _report_boosting_round(env: Any) -> None:
    """Report a boosting round to the current training; a callback that LightGBM calls after each round."""
    if (fitting := current_training()) is not None:
        results = env.evaluation_result_list or []
        fitting.end_epoch(env.iteration, {f"{data}-{name}": value for data, name, value, *_ in results})


def _add_round_callback(train: Any) -> object:
    """Wrap *train* to pass a callback, because LightGBM has no list of callbacks whose method could be patched."""
    signature = inspect.signature(train)

    @functools.wraps(train)
    def train_with_callback(*args: object, **kwargs: Any) -> object:
        if current_training() is not None and len(args) < list(signature.parameters).index("callbacks"):
            kwargs = {**kwargs, "callbacks": [*(kwargs.get("callbacks") or ()), _report_boosting_round]}
        return train(*args, **kwargs)

    return train_with_callback


def _patch_train() -> Undo:
    make = functools.partial(replace_function, make=_add_round_callback)
    return apply_patches(
        Patch(target, make, "the metrics of each round")
        for target in ("lightgbm:train", "lightgbm.sklearn:train", "lightgbm:cv")
    )


def _read_result(_: TrainingRecord, call: Mapping[str, Any], __: object) -> None:
    add_rounds(get_nested(call.get("self"), "evals_result_", dict))


def _log_dask_model(call: Mapping[str, Any], _: object, options: Mapping[str, Any]) -> str | None:
    """Log what was trained on Dask as a model that needs no Dask."""
    import mlflow.lightgbm

    model = call["self"].to_local()
    return log_model_with_example(
        mlflow.lightgbm.log_model, model, make_rows(call.get("X"), options), model.predict, options
    )


HOOK = TrainingHook(
    "lightgbm",
    "lightgbm>=4.3,<5",
    ("lightgbm",),
    TrainingLibrary(
        flavor="lightgbm",
        find_training_functions=_find_training_functions,
        find_unlogged_functions=_find_dask_functions,
        read_arguments=_read_training,
        trains_later=is_awaited,
        read_result=_read_result,
        log_model=_log_dask_model,
        patch_epochs=_patch_train,
        find_prediction_methods=_find_prediction_methods,
    ),
)
autolog = HOOK.autolog
