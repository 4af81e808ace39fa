"""scikit-learn: the fit of every estimator. A pipeline or a search is recorded as one training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._shape import get_nested
from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.record import TrainingRecord, write_params

__all__ = ["HOOK", "autolog"]

_CROSS_VALIDATIONS: Final = ("cross_val_score", "cross_validate", "cross_val_predict")

# A calibrated classifier fits a LabelEncoder in each prediction. MLflow logs none of these.
_TRANSFORMERS: Final = tuple(
    f"sklearn.{name}" for name in ("preprocessing", "impute", "feature_extraction", "feature_selection", "compose")
)


def _list_estimators() -> set[type]:
    from sklearn.pipeline import Pipeline
    from sklearn.utils import all_estimators

    return {*(found for _, found in all_estimators()), Pipeline}


def _find_training_functions() -> Iterator[PatchPoint]:
    for cls in _list_estimators():
        for name in ("fit", "fit_transform", "fit_predict", "partial_fit"):
            if hasattr(cls, name):
                yield cls, name
    import sklearn.model_selection

    for name in _CROSS_VALIDATIONS:
        yield sklearn.model_selection, name


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


def _read_training_result(fit: TrainingRecord, call: Mapping[str, object], result: Any) -> Mapping[str, float] | None:
    if fit.function in _CROSS_VALIDATIONS:
        found = {"test_score": result} if fit.function == "cross_val_score" else result
        return _read_folds(fit, found) if isinstance(found, dict) else None
    _read_search(fit, next(iter(call.values()), None))
    return None


def _read_folds(fit: TrainingRecord, found: Mapping[str, Any]) -> Mapping[str, float]:
    """Read the scores of each fold of a cross-validation, and return their means."""
    scores = {name: values for name, values in found.items() if hasattr(values, "mean") and values.dtype.kind == "f"}
    fit.add_folds([dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True)])
    return {f"mean_{name}": float(values.mean()) for name, values in scores.items()}


def _read_search(fit: TrainingRecord, search: object) -> None:
    """Read the candidates of a search and its best; any other estimator has none."""
    results = get_nested(search, "cv_results_", dict)
    if results is None:
        return
    scores = {name: results[name] for name in results if name.startswith(("mean_test_", "std_test_", "rank_test_"))}
    fit.add_candidates(
        (params, {name: values[number] for name, values in scores.items()})
        for number, params in enumerate(results["params"])
    )
    fit.best_score = get_nested(search, "best_score_", float)
    fit.refit_time = get_nested(search, "refit_time_", float)
    if (best := get_nested(search, "best_params_", dict)) is not None:
        fit.best_params = write_params(best)


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
        read_result=_read_training_result,
        find_prediction_methods=_find_prediction_methods,
        helper_modules=_TRANSFORMERS,
        is_helper=True,
        check_options=_check_options,
    ),
    frozenset({"max_tuning_runs", "log_post_training_metrics", "serialization_format", "pos_label"}),
)
autolog = HOOK.autolog
