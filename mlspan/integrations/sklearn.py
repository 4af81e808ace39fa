"""scikit-learn: the fit of every estimator. A pipeline or a search is recorded as one training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.record import TrainingRecord

__all__ = ["HOOK", "autolog"]


def _list_estimators() -> set[type]:
    from sklearn.pipeline import Pipeline
    from sklearn.utils import all_estimators

    return {*(found for _, found in all_estimators()), Pipeline}


def _find_training_functions() -> Iterator[PatchPoint]:
    for cls in _list_estimators():
        for name in ("fit", "fit_transform", "fit_predict"):
            if hasattr(cls, name):
                yield cls, name


def _find_prediction_methods() -> Iterator[PatchPoint]:
    found = {
        (owner, name)
        for cls in _list_estimators()
        for name in ("predict", "predict_proba")
        for owner in [next((base for base in cls.__mro__ if name in vars(base)), None)]
        if owner is not None
    }
    yield from found


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    estimator, data, *_ = *call.values(), None
    fit.set_size(data)
    fit.set_params(estimator.get_params(deep=False))


def _check_options(options: Mapping[str, Any]) -> str | None:
    """Return what MLflow's autologging says of an option that it refuses; None if it refuses none."""
    runs = options.get("max_tuning_runs")
    if isinstance(runs, int) and runs < 0:
        return f"`max_tuning_runs` must be non-negative, instead got {runs}."
    return None


HOOK = TrainingHook(
    "sklearn",
    "scikit-learn>=1.6,<2",
    ("sklearn",),
    TrainingLibrary(
        flavor="sklearn",
        find_training_functions=_find_training_functions,
        read_arguments=_read_training,
        find_prediction_methods=_find_prediction_methods,
        is_helper=True,
        check_options=_check_options,
    ),
    frozenset({"max_tuning_runs", "log_post_training_metrics", "serialization_format", "pos_label"}),
)
autolog = HOOK.autolog
