"""Scenarios: trainings of scikit-learn, logged by MLflow's own autologging or by ours; they take long."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from harness import Tools, scenario
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROWS: Final = np.arange(24, dtype=float).reshape(12, 2)
TARGET: Final = np.arange(12, dtype=float)
CLASSES: Final = np.array([0, 1] * 6)


class Own(BaseEstimator):
    """An estimator of the application's own."""

    def fit(self, rows: Any, target: Any = None, *, fails: bool = False) -> Any:
        if fails:
            raise ValueError("the estimator's own")
        self.mean_ = float(np.mean(rows))
        return self


def _fit_itself() -> Any:
    model = LinearRegression()
    return model.fit(ROWS, TARGET) is model


def _pickle() -> Any:
    model = pickle.loads(pickle.dumps(LinearRegression().fit(ROWS, TARGET)))
    return [model.coef_.round(6), model.predict(ROWS[:2]).round(6), sorted(vars(model))]


def _search() -> Any:
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(ROWS, CLASSES)
    return [search.best_params_, search.best_score_, search.n_splits_]


TRAININGS: Final[dict[str, Callable[[], Any]]] = {
    "fit": lambda: LinearRegression().fit(ROWS, TARGET).coef_.round(6),
    "fit returns itself": _fit_itself,
    "fit_transform": lambda: StandardScaler().fit_transform(ROWS).round(6),
    "fit_predict": lambda: KMeans(2, n_init=1, random_state=0).fit_predict(ROWS),
    "wrong shape": lambda: LinearRegression().fit(ROWS, TARGET[:3]),
    "wrong arity": lambda: LinearRegression().fit(),
    "not fitted": lambda: LinearRegression().predict(ROWS),
    "does not converge": lambda: LogisticRegression(max_iter=1).fit(ROWS, CLASSES).classes_,
    "pipeline": lambda: make_pipeline(StandardScaler(), LinearRegression()).fit(ROWS, TARGET).predict(ROWS).round(6),
    "search": _search,
    "cross validation": lambda: cross_val_score(LinearRegression(), ROWS, TARGET, cv=2).round(6),
    "clone": lambda: clone(LinearRegression(fit_intercept=False).fit(ROWS, TARGET)).get_params(),
    "pickle": _pickle,
    "own estimator": lambda: vars(Own().fit(ROWS)),
    "own estimator that fails": lambda: Own().fit(ROWS, fails=True),
    "signature": lambda: [LinearRegression.fit, Own.fit, LinearRegression().fit.__func__.__name__],
}


@scenario(TRAININGS)
def training(tools: Tools, run: Callable[[], Any]) -> Any:
    return run()
