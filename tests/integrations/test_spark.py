"""Spark MLlib, trained for real on a local session."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pyspark = pytest.importorskip("pyspark", reason="Spark is in the nox session spark")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)

import pandas as pd
from classic import Contract
from pyspark.errors.exceptions.captured import IllegalArgumentException
from pyspark.ml import Estimator, Pipeline
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit
from pyspark.sql import SparkSession

from mlspan.testing import Spans

ROWS = [(float(number), float(number % 3), 2.0 * number) for number in range(12)]


class TestSpark(Contract):
    library, tag, span = "spark", "pyspark.ml", "fit LinearRegression"
    rows, features = None, 2
    fails = IllegalArgumentException
    has_id = False
    metrics = False  # MLflow asks no evaluation of Spark's models

    @pytest.fixture(autouse=True, scope="class")
    def session(self) -> Iterator[None]:
        made = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "2")
            .getOrCreate()
        )
        data = made.createDataFrame(ROWS, ["a", "b", "label"])
        type(self).plain = data
        type(self).data = VectorAssembler(inputCols=["a", "b"], outputCol="features").transform(data).cache()
        yield
        made.stop()

    def train(self) -> Any:
        return LinearRegression(maxIter=1).fit(self.data)

    def fail(self) -> None:
        LinearRegression(featuresCol="no such").fit(self.data)

    def patch_point(self) -> tuple[Any, str]:
        return Estimator, "fit"

    def check_model(self, loaded: Any) -> None:
        assert len(loaded.predict(pd.DataFrame({"features": [[1.0, 1.0]]}))) == 1

    @pytest.mark.parametrize("search", [CrossValidator, TrainValidationSplit])
    def test_a_search_is_one_training(self, autolog: Any, spans: Spans, search: Any) -> None:
        """One span and one run, with a run below it for each candidate, also where candidates are tried in threads."""
        autolog(log_models=False)
        model = LinearRegression(maxIter=1)
        grid = ParamGridBuilder().addGrid(model.regParam, [0.0, 0.1]).build()
        search(estimator=model, estimatorParamMaps=grid, evaluator=RegressionEvaluator(), parallelism=2, seed=1).fit(
            self.data
        )
        assert spans.tree() == f"fit {search.__name__}\n  log metrics"
        (span,) = spans.named(f"fit {search.__name__}")
        scores = [event.attributes["mlspan.fit.metric.mean_rmse"] for event in span.events]
        assert [event.attributes["mlspan.fit.params"] for event in span.events] == [
            '{"regParam":0.0}',
            '{"regParam":0.1}',
        ]
        assert span.attributes["mlspan.fit.best_score"] == min(scores)
        best = scores.index(min(scores))
        assert span.attributes["mlspan.fit.best_params"] == span.events[best].attributes["mlspan.fit.params"]
        assert all("mlspan.fit.metric.std_rmse" in event.attributes for event in span.events) is (
            search is CrossValidator
        )
        parent, *children = self.runs()
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        assert len(children) == 2

    def test_a_pipeline_is_one_training(self, autolog: Any, spans: Spans) -> None:
        autolog(log_models=False)
        Pipeline(stages=[VectorAssembler(inputCols=["a", "b"], outputCol="features"), LinearRegression(maxIter=1)]).fit(
            self.plain
        )
        assert spans.tree() == "fit Pipeline"
        assert self.run().data.params
