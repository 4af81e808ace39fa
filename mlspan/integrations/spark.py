"""Spark MLlib: the fit of every Estimator. A pipeline or a search is recorded as one training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._shape import dig
from ._training.hook import FitHook
from ._training.library import Library, Seam
from ._training.record import Fit

__all__ = ["HOOK", "autolog"]


def _seams() -> Iterator[Seam]:
    from pyspark.ml import Estimator

    yield Estimator, "fit"


def _read(fit: Fit, call: Mapping[str, Any]) -> None:
    """Fill the record from the estimator; leave the rows uncounted, as that would be a job over all the data."""
    estimator = call["self"]
    params = {param.name: estimator.getOrDefault(param) for param in estimator.params if estimator.isDefined(param)}
    fit.set_params(params)


def _after(fit: Fit, _: Mapping[str, Any], model: Any) -> None:
    """Read the number of features, which only the fitted model knows."""
    fit.features = dig(model, "numFeatures", int)


HOOK = FitHook(
    "spark",
    "pyspark>=3.5,<5",
    ("pyspark.ml",),
    Library(flavor="pyspark.ml", seams=_seams, read=_read, after=_after),
    frozenset({"log_post_training_metrics", "log_model_allowlist"}),
)
autolog = HOOK.autolog
