"""LightGBM's own ``train``, with the metric of each round as an event of the span.

Needs ``pip install '.[mlflow]' lightgbm scikit-learn`` in a checkout of mlspan; no key. Then ``mlspan show`` prints
the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import lightgbm
from sklearn.datasets import load_breast_cancer

from mlspan import integrations

integrations.lightgbm.autolog()

if __name__ == "__main__":
    X, y = load_breast_cancer(return_X_y=True)
    data = lightgbm.Dataset(X, y)
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, data, 10, valid_sets=[data])
    print("trees", booster.num_trees())
