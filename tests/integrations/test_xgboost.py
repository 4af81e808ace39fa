"""XGBoost, trained for real: its own ``train`` and its scikit-learn API."""

from __future__ import annotations

from typing import Any

import pytest

xgboost = pytest.importorskip("xgboost", reason="XGBoost is in the nox session classic")

import numpy as np
from classic import Contract

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

    def seam(self) -> tuple[Any, str]:
        return xgboost, "train"

    def check_model(self, loaded: Any) -> None:
        assert list(loaded.predict(X).round()) == list(Y)


class TestXgboostEstimator(TestXgboost):
    """The scikit-learn API."""

    span = "fit XGBClassifier"

    def train(self) -> Any:
        model = xgboost.XGBClassifier(n_estimators=2, min_child_weight=0, n_jobs=1)
        return model.fit(X, Y, eval_set=[(X, Y)], verbose=False)

    def fail(self) -> None:
        xgboost.XGBClassifier(n_estimators=2, objective="no:such").fit(X, Y)

    def seam(self) -> tuple[Any, str]:
        return xgboost.XGBClassifier, "fit"
