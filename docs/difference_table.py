"""Write the tables of differences from what was measured: ``python docs/difference_table.py``.

The figures come from the tables of docs/performance.md, which ``make bench`` prints, and from tests/alone/alone.json,
which ``python tests/alone/measure.py`` writes. No figure stands here.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
BEGIN, END = "<!-- the difference: python docs/difference_table.py -->\n", "<!-- the difference: end -->"
PERFORMANCE: Final = ROOT / "docs/performance.md"
ALONE: Final = ROOT / "tests/alone/alone.json"
CALLS: Final = {  # first column of a table in performance.md -> its column, what is said of it
    "chat": ("adds", "added to a chat call, µs"),
    "async": ("adds", "added to an asynchronous chat call, µs"),
    "stream": ("adds for each chunk", "added to each chunk of a stream, µs"),
    "langchain": ("a run adds", "added to a LangChain sequence (function, prompt, model, parser), µs"),
    "langgraph": ("a run adds", "added to a LangGraph run of three nodes, µs"),
    "llama_index": ("a run adds", "added to a LlamaIndex query, µs"),
    "autogen": ("a run adds", "added to an AutoGen run with a tool, µs"),
}
STORES: Final = {
    "database": "traces stored per second, in a database (SQLite)",
    "server-sqlite": "the same, in a tracking server on SQLite",
    "server-postgres": "the same, in a tracking server on PostgreSQL",
}


def read_tables() -> dict[str, list[dict[str, str]]]:
    """Return the rows of each table of the page, by the heading of the table's first column."""
    found: dict[str, list[dict[str, str]]] = {}
    for block in re.findall(r"(?:^\|.*\|\n)+", PERFORMANCE.read_text(encoding="utf-8"), re.MULTILINE):
        head, _, *rows = ([cell.strip(" *") for cell in line.strip("|").split("|")] for line in block.splitlines())
        found[head[0]] = [dict(zip(head, row, strict=True)) for row in rows]
    return found


def list_calls(peers: tuple[str, ...], cases: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield a row for each case, with the medians of the peers; who was not measured has an empty cell."""
    tables = read_tables()
    for case in cases:
        column, said = CALLS[case]
        medians = {row[case]: row[column].partition(" ")[0] for row in tables[case]}
        yield [said, *(medians.get(peer, "") for peer in peers)]


def list_stores() -> Iterator[list[str]]:
    """Yield how many traces of one span each are stored a second, by mlspan and by MLflow's client."""
    rates = {row["into"]: row for row in reversed(read_tables()["into"]) if row["traces of spans"].endswith(" of 1")}
    for store, said in STORES.items():
        yield [said, rates[store]["mlspan/s"], rates[store]["MLflow's client/s"]]


def count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'s' * (number != 1)}"


def list_differences() -> list[list[str]]:
    """Return what the two stored of the same program, where they differ."""
    return [row for row in _list_behaviour() if row[1] != row[2]]


def _list_behaviour() -> Iterator[list[str]]:
    cases: dict[str, dict[str, Any]] = json.loads(ALONE.read_text(encoding="utf-8"))["cases"]

    def compare(case: str, key: str, word: str) -> list[str]:
        return [count(cases[case][tracer][key], word) for tracer in ("mlspan", "mlflow")]

    yield ["a stream that the program leaves early gives", *compare("leave_a_stream_early", "traces", "trace")]
    yield [
        "a call by LangChain's OpenAI model, with both integrations on, gives",
        *compare("ask_by_langchain", "spans", "span"),
    ]
    yield ["its tokens in the trace's sum (the server says 5)", *compare("ask_by_langchain", "tokens", "token")]
    yield [
        "a LangGraph graph that waits for a person has",
        *compare("interrupt_a_graph", "failed spans", "failed span"),
    ]
    yield [
        "for one call, the application's own TracerProvider exports",
        *compare("have_a_provider", "exported", "span"),
    ]
    yield ["a call by `with_raw_response` gives", *compare("read_a_raw_response", "traces", "trace")]


def build_table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def build_short() -> str:
    """Return the table of the README and of the home page."""
    versions = json.loads(ALONE.read_text(encoding="utf-8"))["versions"]
    rows = [
        *list_calls(("mlspan", "MLflow autolog"), ("chat", "stream", "langchain")),
        *list_stores(),
        *list_differences(),
    ]
    return build_table(["", "mlspan", f"MLflow {versions['mlflow']}"], rows)


def build_costs() -> str:
    """Return the table of docs/cost.md: all peers, all cases."""
    peers = ("mlspan", "MLflow autolog", "OpenInference", "OpenLLMetry", "Langfuse", "Logfire", "OpenTelemetry GenAI")
    return build_table(["", *peers], list(list_calls(peers, tuple(CALLS))))


def build_behaviour() -> str:
    """Return the table of docs/migrate/mlflow.md."""
    return build_table(
        ["", "MLflow's autolog", "mlspan"], [[said, theirs, ours] for said, ours, theirs in list_differences()]
    )


def build_costs_beside(peer: str) -> str:
    """Return the table of a page of docs/compare: the cases that were measured for *peer*."""
    rows = [row for row in list_calls(("mlspan", peer), tuple(CALLS)) if row[2]]
    return build_table(["", "mlspan", peer], rows)


RIVALS: Final = {
    "mlflow": "MLflow autolog",
    "openinference": "OpenInference",
    "openllmetry": "OpenLLMetry",
    "langfuse": "Langfuse",
    "logfire": "Logfire",
}
PAGES: Final = {
    "README.md": build_short,
    "docs/index.md": build_short,
    "docs/cost.md": build_costs,
    "docs/migrate/mlflow.md": build_behaviour,
    **{f"docs/compare/{page}.md": functools.partial(build_costs_beside, peer) for page, peer in RIVALS.items()},
}


def build_page(name: str) -> str:
    """Return the page with its table made anew."""
    before, _, rest = (ROOT / name).read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{PAGES[name]()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(build_page(page), encoding="utf-8")
