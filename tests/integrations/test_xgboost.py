"""XGBoost, trained for real: its own ``train`` and its scikit-learn API."""

from __future__ import annotations

import functools
from typing import Any

import pytest

xgboost = pytest.importorskip("xgboost", reason="XGBoost is in the nox session classic")

import numpy as np
from classic import Contract

from mlspan import integrations

X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]])
Y = np.array([0, 1, 0, 1, 0, 1])
PARAMS = {"objective": "binary:logistic", "min_child_weight": 0, "nthread": 1}


class TestXgboost(Contract):
    """``xgboost.train``."""

    library, tag, span = "xgboost", "xgboost", "fit Booster"
    rows, features, epochs = 6, 2, 2
    fails = xgboost.core.XGBoostError

    def train(self) -> Any:
        data = xgboost.DMatrix(X, Y)
        return xgboost.train(PARAMS, data, 2, evals=[(data, "train")], verbose_eval=False)

    def fail(self) -> None:
        xgboost.train({**PARAMS, "objective": "no:such"}, xgboost.DMatrix(X, Y), 2)

    def patch_point(self) -> tuple[Any, str]:
        return xgboost, "train"

    def check_model(self, loaded: Any) -> None:
        assert list(loaded.predict(X).round()) == list(Y)

    def test_functions_imported_before(self, autolog: Any, spans: Any) -> None:
        """``from xgboost import train`` before ``autolog()``; also in a partial, which no search of modules finds."""
        from xgboost import cv, train

        data, held = xgboost.DMatrix(X, Y), functools.partial(train, PARAMS)
        self.check_held(autolog, spans, lambda: held(data, num_boost_round=2), "fit Booster", runs=1)
        self.check_held(autolog, spans, lambda: cv(PARAMS, data, 2, nfold=2), "cv Booster", runs=0)
        assert (xgboost.train, xgboost.cv) == (train, cv)

    def test_a_function_imported_between_two_calls(self, autolog: Any, spans: Any) -> None:
        """``from xgboost import train`` between two; test_held_trainings.py has all orders."""
        autolog(log_models=False)
        held = xgboost.train
        autolog(log_models=False)
        held(PARAMS, xgboost.DMatrix(X, Y), 2)
        assert (len(spans.named("fit Booster")), len(self.runs())) == (1, 1)


class TestXgboostEstimator(TestXgboost):
    """The scikit-learn API."""

    test_functions_imported_before = test_a_function_imported_between_two_calls = (
        None  # methods are found in their class
    )

    span = "fit XGBClassifier"

    def train(self) -> Any:
        model = xgboost.XGBClassifier(n_estimators=2, min_child_weight=0, n_jobs=1)
        return model.fit(X, Y, eval_set=[(X, Y)], verbose=False)

    def fail(self) -> None:
        xgboost.XGBClassifier(n_estimators=2, objective="no:such").fit(X, Y)

    def patch_point(self) -> tuple[Any, str]:
        return xgboost.XGBClassifier, "fit"

    def test_in_a_search_of_scikit_learns(self, autolog: Any, spans: Any) -> None:
        """GridSearchCV over XGBoost's estimator: one run of scikit-learn's, with a span for each training."""
        from sklearn.model_selection import GridSearchCV

        autolog(log_models=False)
        integrations.sklearn.autolog(log_models=False)
        search = GridSearchCV(xgboost.XGBClassifier(n_estimators=1, n_jobs=1), {"max_depth": [1, 2]}, cv=2, refit=False)
        search.fit(X, Y)
        integrations.sklearn.autolog(disable=True)
        assert spans.tree() == "fit GridSearchCV" + "\n  fit XGBClassifier" * 4 + "\n  log metrics"
        parents = [run.data.tags.get("mlflow.parentRunId") for run in self.runs()]
        assert parents[0] is None
        assert parents[1:] == [self.runs()[0].info.run_id] * 2
