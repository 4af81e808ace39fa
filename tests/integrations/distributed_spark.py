"""Trainings and searches on Spark's executors: ``python distributed_spark.py NAME...`` runs those of these names."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from distributed_driver import drive, start

X = np.arange(80, dtype=float).reshape(40, 2)
Y = np.tile([0, 1], 20)


def _make_data(session: Any) -> Any:
    from pyspark.ml.feature import VectorAssembler

    rows = [(*map(float, row), float(label)) for row, label in zip(X, Y, strict=True)]
    data = session.createDataFrame(rows, ["a", "b", "label"]).repartition(2)
    return VectorAssembler(inputCols=["a", "b"], outputCol="features").transform(data)


def ml(session: Any) -> object:
    """A search of Spark's own."""
    from pyspark.ml.evaluation import RegressionEvaluator
    from pyspark.ml.regression import LinearRegression
    from pyspark.ml.tuning import CrossValidator, ParamGridBuilder

    model = LinearRegression(maxIter=2)
    grid = ParamGridBuilder().addGrid(model.regParam, [0.0, 0.1]).build()
    search = CrossValidator(
        estimator=model, estimatorParamMaps=grid, evaluator=RegressionEvaluator(), numFolds=2, parallelism=2, seed=1
    )
    return search.fit(_make_data(session)).avgMetrics


def xgboost_fit(session: Any) -> object:
    """XGBoost on two of Spark's tasks, which train one model."""
    from xgboost.spark import SparkXGBClassifier

    model = SparkXGBClassifier(num_workers=2, n_estimators=2, max_depth=2).fit(_make_data(session))
    return model.get_booster().num_boosted_rounds()


def grid_search(_: Any) -> object:
    """scikit-learn's search on Spark's backend for joblib."""
    from joblib import parallel_config
    from joblibspark import register_spark
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    register_spark()
    with parallel_config("spark", n_jobs=2):
        search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}, cv=2).fit(X, Y)
    return [float(score) for score in search.cv_results_["mean_test_score"]]


def main() -> None:
    start()
    from mlspan import integrations

    if os.environ.get("TEST_CLUSTER") == "1":
        integrations.workers.spark.autolog(cluster=True)
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local-cluster[2,1,1024]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    try:
        drive([ml, xgboost_fit, grid_search], session)
    finally:
        session.stop()


if __name__ == "__main__":
    main()
