"""Trainings and searches on Dask's workers: ``python distributed_dask.py NAME...`` runs those of these names."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from distributed_driver import drive, start

X = np.arange(80, dtype=float).reshape(40, 2)
Y = np.tile([0, 1], 20)


def _split() -> tuple[Any, Any]:
    import dask.array as da

    return da.from_array(X, chunks=(20, 2)), da.from_array(Y, chunks=20)


def xgboost_train(client: Any) -> object:
    import xgboost.dask as dxgb

    data = dxgb.DaskDMatrix(client, *_split())
    params = {"max_depth": 2, "objective": "binary:logistic"}
    trained = dxgb.train(client, params, data, num_boost_round=3, evals=[(data, "train")])
    return trained["history"]["train"]["logloss"]


def xgboost_fit(client: Any) -> object:
    import xgboost.dask as dxgb

    model = dxgb.DaskXGBClassifier(n_estimators=3, max_depth=2)
    model.client = client
    x, y = _split()
    model.fit(x, y, eval_set=[(x, y)])
    return model.evals_result()["validation_0"]["logloss"]


def lightgbm_fit(client: Any) -> object:
    import dask.dataframe as dd
    import lightgbm
    import pandas as pd

    frame = dd.from_pandas(pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y}), npartitions=2)
    model = lightgbm.DaskLGBMClassifier(n_estimators=3, min_child_samples=1, client=client, verbose=-1)
    x, y = frame[["a", "b"]], frame["y"]
    model.fit(x, y, eval_X=(x,), eval_y=(y,))
    return model.evals_result_["valid_0"]["binary_logloss"]


def grid_search(_: Any) -> object:
    from joblib import parallel_config
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    with parallel_config("dask"):
        search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}, cv=2).fit(X, Y)
    return [float(score) for score in search.cv_results_["mean_test_score"]]


def plain_fit(_: Any) -> object:
    """A training on this machine, beside those on the workers."""
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=2).fit(X, Y).get_booster().num_boosted_rounds()


def main() -> None:
    start()
    from distributed import Client, LocalCluster

    processes = os.environ.get("TEST_PROCESSES", "1") == "1"
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None)
    with cluster, Client(cluster) as client:
        drive([xgboost_train, xgboost_fit, lightgbm_fit, grid_search, plain_fit], client)


if __name__ == "__main__":
    main()
