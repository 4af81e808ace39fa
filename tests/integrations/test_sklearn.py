"""scikit-learn, trained for real."""

from __future__ import annotations

from typing import Any

import pytest

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is in the nox session classic")

import numpy as np
from classic import Contract
from sklearn.linear_model import LogisticRegression

X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]])
Y = np.array([0, 1, 0, 1, 0, 1])


class TestSklearn(Contract):
    library, tag, span = "sklearn", "sklearn", "fit LogisticRegression"
    rows, features = 6, 2
    fails = ValueError

    def train(self) -> Any:
        return LogisticRegression().fit(X, Y)

    def fail(self) -> None:
        LogisticRegression().fit(X, Y[:3])

    def seam(self) -> tuple[Any, str]:
        return LogisticRegression, "fit"

    def check_model(self, loaded: Any) -> None:
        assert list(loaded.predict(X)) == list(Y)
