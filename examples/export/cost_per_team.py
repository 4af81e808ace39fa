"""What each team has spent, counted by DuckDB over the spans that ``mlspan export`` has written.

It needs DuckDB (``pip install duckdb``), and the file needs pyarrow, which comes with MLflow:

    mlspan export --since 1w week.parquet
    python cost_per_team.py week.parquet

The team is the tag ``team``: ``with tracing.tags(team="search"): ...``. Each call to a model counts once.
"""

from __future__ import annotations

import sys

import duckdb

QUERY = """
    SELECT
        coalesce(json_extract_string(tags, '$.team'), 'no team') AS team,
        count(cost_usd) AS calls,
        coalesce(sum(input_tokens + output_tokens), 0)::BIGINT AS tokens,
        coalesce(sum(cost_usd), 0) AS cost
    FROM read_parquet(?)
    GROUP BY team
    ORDER BY cost DESC, team
"""


def main(file: str) -> None:
    for team, calls, tokens, cost in duckdb.execute(QUERY, [file]).fetchall():
        print(f"{team}: ${cost:.6f} for {calls} calls with a known price, {tokens} tokens")


if __name__ == "__main__":
    main(sys.argv[1])
