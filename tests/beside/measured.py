"""What the matrix has found, in ``measured.json``: the table of docs/beside.md is made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "measured.json"
ORDERS = ("ours first", "theirs first")
Run = Mapping[str, Any]  # what program.py prints


def find_differences(run: Run, other: Run) -> list[str]:
    """Return the calls whose callers saw different things in the two runs."""
    return [name for name, call in run["calls"].items() if call["result"] != other["calls"][name]["result"]]


def find_losses(run: Run, complete: Run, whose: str) -> list[str]:
    """Return the calls of which *run* has another number of spans, ``ours`` or ``theirs``, than the *complete* one."""
    return [name for name, call in run["calls"].items() if call[whose] != complete["calls"][name][whose]]


def summarize(peer: str, runs: Mapping[str, Run], ours_alone: Run) -> dict[str, Any]:
    """Return what the page says of one tracer, from the runs of its orders."""
    found: dict[str, Any] = {"versions": runs["alone"]["versions"], "orders": {}}
    found["changed by it alone"] = find_differences(runs["alone"], runs["bare"])
    for order in ORDERS:
        run = runs[order]
        found["orders"][order] = {
            "changed": find_differences(run, runs["alone"]),
            "ours lost": find_losses(run, ours_alone, "ours"),
            "theirs lost": find_losses(run, runs["alone"], "theirs"),
            "counted": _count_tokens(run, ours_alone),
            "said": sorted({line.partition(": ")[2] for line in run["log"] if line.startswith("mlspan: ")}),
        }
    return {"peer": peer, **found}


def _count_tokens(run: Run, ours_alone: Run) -> dict[str, int]:
    """Return how many calls have their tokens in MLflow so many times, by that number.

    Calls without tokens are out, and those of which they are not all known, as where a stream is left.
    """
    counted: dict[str, int] = {}
    for name, call in run["calls"].items():
        if ours_alone["calls"][name]["tokens"] == 1:
            key = f"{call['tokens']:g}"
            counted[key] = counted.get(key, 0) + 1
    return counted


def read() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def write(summary: Mapping[str, Any]) -> None:
    """Put the summary of one tracer into the file."""
    known = read() | {summary["peer"]: dict(summary)}
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
