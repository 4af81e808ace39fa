"""LightGBM, trained for real: its own ``train`` and its scikit-learn API."""

from __future__ import annotations

from typing import Any

import pytest

lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is in the nox session classic")

import numpy as np
from classic import Contract

X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]])
Y = np.array([0, 1, 0, 1, 0, 1])
PARAMS = {"min_data_in_leaf": 1, "min_data_in_bin": 1, "num_threads": 1, "verbose": -1}


class TestLightgbm(Contract):
    """``lightgbm.train``."""

    library, tag, span = "lightgbm", "lightgbm", "fit Booster"
    rows, features, epochs = 6, 2, 2
    fails = lightgbm.basic.LightGBMError

    def train(self) -> Any:
        data = lightgbm.Dataset(X, Y)
        return lightgbm.train({**PARAMS, "objective": "binary"}, data, 2, valid_sets=[data])

    def fail(self) -> None:
        lightgbm.train({**PARAMS, "objective": "no such"}, lightgbm.Dataset(X, Y), 2)

    def patch_point(self) -> tuple[Any, str]:
        return lightgbm, "train"

    def check_model(self, loaded: Any) -> None:
        assert list(loaded.predict(X).round()) == list(Y)

    def test_functions_imported_before(self, autolog: Any, spans: Any) -> None:
        """``from lightgbm import train`` before ``autolog()``: the rounds are there as well."""
        from lightgbm import cv, train

        params = {**PARAMS, "objective": "binary"}
        data = lightgbm.Dataset(X, Y, params={"min_data_in_bin": 1}, free_raw_data=False)
        self.check_held(autolog, spans, lambda: train(params, data, 2), "fit Booster", runs=1)
        self.check_held(autolog, spans, lambda: cv(params, data, 2, nfold=2), "cv Booster", runs=0)
        assert (lightgbm.train, lightgbm.cv) == (train, cv)


class TestLightgbmEstimator(TestLightgbm):
    """The scikit-learn API."""

    test_functions_imported_before = None  # methods are found in their class

    span = "fit LGBMClassifier"

    def train(self) -> Any:
        return lightgbm.LGBMClassifier(n_estimators=2, **PARAMS).fit(X, Y, eval_set=[(X, Y)])

    def fail(self) -> None:
        lightgbm.LGBMClassifier(objective="no such", **PARAMS).fit(X, Y)

    def patch_point(self) -> tuple[Any, str]:
        return lightgbm.LGBMClassifier, "fit"
