"""Write the table of docs/mlflow.md from what test_server_matrix.py found: ``python docs/server_table.py FILE...``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parent / "mlflow.md"
# None: the check was not part of that run, mostly as it was added after it. "n/a": OTLP does not have it, such as runs.
_MARKS: Final = {True: "yes", False: "**no**", None: "not run", "n/a": ""}
BEGIN, END = "<!-- servers: begin -->", "<!-- servers: end -->"


def build_table(lines: list[str]) -> str:
    """Return the table: a row for each version and store, a column for each thing that was read back."""
    rows = [json.loads(line) for line in lines]
    columns = list(dict.fromkeys(row["what"] for row in sorted(rows, key=lambda row: not row["mlflow"])))
    found: dict[tuple[str, str], dict[str, bool]] = {}
    for row in rows:
        of_store = found.setdefault((row["mlflow"], row["store"]), {})
        of_store[row["what"]] = row["passed"] and of_store.get(row["what"], True)
    table = ["| MLflow | traces in | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for (version, store), passed in sorted(found.items(), key=lambda one: _sort_key(one[0])):
        marks = (_MARKS[passed.get(what) if version or what in passed else "n/a"] for what in columns)
        table.append(f"| {version} | {store} | " + " | ".join(marks) + " |")
    return "\n".join(table)


def _sort_key(row: tuple[str, str]) -> tuple[list[int], str]:
    """Order rows by the number of the version; those without one, which are no MLflow, come last."""
    version, store = row
    return ([int(number) for number in version.split(".")] if version else [sys.maxsize]), ("" if version else store)


def write_table(page: Path, table: str) -> None:
    """Replace what stands between the two marks of *page*."""
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    write_table(PAGE, build_table([line for file in sys.argv[1:] for line in Path(file).read_text().splitlines()]))
