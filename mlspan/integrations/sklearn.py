"""scikit-learn: the fit of every estimator. A pipeline or a search is recorded as one training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._training.hook import FitHook
from ._training.library import Library, Seam
from ._training.record import Fit

__all__ = ["HOOK", "autolog"]


def _estimators() -> set[type]:
    from sklearn.pipeline import Pipeline
    from sklearn.utils import all_estimators

    return {*(found for _, found in all_estimators()), Pipeline}


def _seams() -> Iterator[Seam]:
    for cls in _estimators():
        for name in ("fit", "fit_transform", "fit_predict"):
            if hasattr(cls, name):
                yield cls, name


def _predicts() -> Iterator[Seam]:
    found = {
        (owner, name)
        for cls in _estimators()
        for name in ("predict", "predict_proba")
        for owner in [next((base for base in cls.__mro__ if name in vars(base)), None)]
        if owner is not None
    }
    yield from found


def _read(fit: Fit, call: Mapping[str, Any]) -> None:
    estimator, data, *_ = *call.values(), None
    fit.set_size(data)
    fit.set_params(estimator.get_params(deep=False))


HOOK = FitHook(
    "sklearn",
    "scikit-learn>=1.6,<2",
    ("sklearn",),
    Library(flavor="sklearn", seams=_seams, read=_read, predicts=_predicts, helps=True),
    frozenset({"max_tuning_runs", "log_post_training_metrics", "serialization_format", "pos_label"}),
)
autolog = HOOK.autolog
