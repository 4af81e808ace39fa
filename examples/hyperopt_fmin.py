"""A search with Hyperopt: one span with a span for each trial, and the trials as runs below the search's.

Needs ``pip install '.[mlflow]' hyperopt scikit-learn`` in a checkout of mlspan; no key. Then ``mlspan show`` prints
the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import mlflow
import numpy as np
from hyperopt import fmin, hp, tpe
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlspan import integrations

integrations.autolog(log_models=False)
X, y = load_iris(return_X_y=True)


def objective(point: dict[str, float]) -> float:
    with mlflow.start_run(nested=True):
        model = LogisticRegression(C=point["C"], max_iter=200).fit(X, y)
        return -float(model.score(X, y))


if __name__ == "__main__":
    space = {"C": hp.loguniform("C", -4, 2)}
    with mlflow.start_run(run_name="search"):
        best = fmin(objective, space, algo=tpe.suggest, max_evals=3, rstate=np.random.default_rng(0), verbose=False)
    print(best)
