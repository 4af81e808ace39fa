"""A cross-validation with Spark MLlib: one run with a run below it for each candidate, and one span.

Needs ``pip install '.[mlflow]' pyspark`` in a checkout of mlspan, and Java. Then ``mlspan show`` prints the trace,
and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from pyspark.ml import Pipeline
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import SparkSession

from mlspan import integrations

integrations.spark.autolog(log_models=False)

if __name__ == "__main__":
    spark = SparkSession.builder.master("local[2]").config("spark.sql.shuffle.partitions", "2").getOrCreate()
    rows = spark.createDataFrame([(float(n), float(n % 3), 2.0 * n) for n in range(24)], ["a", "b", "label"])
    regression = LinearRegression(maxIter=2)
    pipeline = Pipeline(stages=[VectorAssembler(inputCols=["a", "b"], outputCol="features"), regression])
    grid = ParamGridBuilder().addGrid(regression.regParam, [0.0, 0.1]).build()
    search = CrossValidator(
        estimator=pipeline, estimatorParamMaps=grid, evaluator=RegressionEvaluator(), numFolds=2, seed=1
    )
    print(search.fit(rows).avgMetrics)
    spark.stop()
