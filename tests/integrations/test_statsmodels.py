"""statsmodels, trained for real. MLflow logs its models without example and signature; we add both, and the data."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("statsmodels", reason="statsmodels is in the nox session classic")

import numpy as np
import statsmodels.api as sm
from classic import Contract

X = sm.add_constant(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))
Y = np.array([1.0, 3.1, 4.9, 7.0, 9.2, 10.9, 13.1, 15.0])


class TestStatsmodels(Contract):
    library, tag, span = "statsmodels", "statsmodels", "fit OLS"
    rows, features = 8, 2
    fails = ValueError

    def train(self) -> Any:
        return sm.OLS(Y, X).fit()

    def fail(self) -> None:
        sm.OLS(Y, X).fit(method="no such")

    def patch_point(self) -> tuple[Any, str]:
        return sm.regression.linear_model.RegressionModel, "fit"

    def check_model(self, loaded: Any) -> None:
        assert loaded.predict(X) == pytest.approx(Y, abs=0.3)
