"""What each team has spent, counted by Spark over the spans that ``mlspan export`` has written.

It needs Spark (``pip install pyspark`` and Java), and the file needs pyarrow, which comes with MLflow:

    mlspan export --since 1w week.parquet
    python cost_per_team_spark.py week.parquet

The team is the tag ``team``: ``with tracing.tags(team="search"): ...``. Each call to a model counts once.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession, functions


def main(file: str) -> None:
    spark = SparkSession.builder.master("local[2]").appName("cost per team").getOrCreate()
    team = functions.coalesce(functions.get_json_object("tags", "$.team"), functions.lit("no team"))
    totals = (
        spark.read.parquet(file)
        .groupBy(team.alias("team"))
        .agg(
            functions.count("cost_usd").alias("calls"),
            functions.coalesce(functions.sum(functions.expr("input_tokens + output_tokens")), functions.lit(0)).alias(
                "tokens"
            ),
            functions.coalesce(functions.sum("cost_usd"), functions.lit(0.0)).alias("cost"),
        )
    )
    for row in totals.orderBy(functions.desc("cost"), "team").collect():
        print(f"{row.team}: ${row.cost:.6f} for {row.calls} calls with a known price, {row.tokens} tokens")
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
