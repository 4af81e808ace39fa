"""Spark MLlib: the fit of every Estimator. A pipeline or a search is recorded as one training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._shape import get_nested
from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.record import TrainingRecord

__all__ = ["HOOK", "autolog"]


def _find_training_functions() -> Iterator[PatchPoint]:
    from pyspark.ml import Estimator

    yield Estimator, "fit"


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    """Fill the record from the estimator; leave the rows uncounted, as that would be a job over all the data."""
    estimator = call["self"]
    params = {param.name: estimator.getOrDefault(param) for param in estimator.params if estimator.isDefined(param)}
    fit.set_params(params)


def _read_fitted_model(fit: TrainingRecord, _: Mapping[str, object], model: object) -> None:
    """Read the number of features, which only the fitted model knows."""
    fit.features = get_nested(model, "numFeatures", int)


HOOK = TrainingHook(
    "spark",
    "pyspark>=3.5,<5",
    ("pyspark.ml",),
    TrainingLibrary(
        flavor="pyspark.ml",
        find_training_functions=_find_training_functions,
        read_arguments=_read_training,
        read_result=_read_fitted_model,
    ),
    frozenset({"log_post_training_metrics", "log_model_allowlist"}),
)
autolog = HOOK.autolog
