"""Spark MLlib: the fit of every Estimator. A pipeline or a search is recorded as one training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from .._shape import get_list, get_nested
from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.record import TrainingRecord, write_params

__all__ = ["HOOK", "autolog"]


def _find_training_functions() -> Iterator[PatchPoint]:
    from pyspark.ml import Estimator

    yield Estimator, "fit"


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    """Fill the record from the estimator; leave the rows uncounted, as that would be a job over all the data."""
    estimator = call["self"]
    params = {param.name: estimator.getOrDefault(param) for param in estimator.params if estimator.isDefined(param)}
    fit.set_params(params)


def _read_fitted_model(fit: TrainingRecord, call: Mapping[str, object], model: Any) -> None:
    """Read what only the fitted model knows: the number of features, and the candidates of a search."""
    fit.features = get_nested(model, "numFeatures", int)
    scores = get_list(model, "avgMetrics") or get_list(model, "validationMetrics")
    if scores:
        _read_search(fit, call["self"], model, scores)


def _read_search(fit: TrainingRecord, search: Any, model: Any, scores: list[float]) -> None:
    """Read the candidates of a search with their *scores*, and its best."""
    evaluator = search.getEvaluator()
    name, deviations = _name_metric(evaluator), get_list(model, "stdMetrics") or []
    candidates = [
        {param.name: value for param, value in candidate.items()} for candidate in search.getEstimatorParamMaps()
    ]
    fit.add_candidates(
        (params, {f"mean_{name}": score, **({f"std_{name}": spread} if spread is not None else {})})
        for params, score, spread in zip_longest(candidates, scores, deviations[: len(scores)])
    )
    choose = max if evaluator.isLargerBetter() else min
    best = choose(range(len(scores)), key=scores.__getitem__)
    fit.best_score, fit.best_params = float(scores[best]), write_params(candidates[best])


def _name_metric(evaluator: Any) -> str:
    """Return the name of what an evaluator measures, such as ``rmse``; ``metric`` for one of the caller's own."""
    name = evaluator.getMetricName() if hasattr(evaluator, "getMetricName") else None
    return name if isinstance(name, str) else "metric"


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
