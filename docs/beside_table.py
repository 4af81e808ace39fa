"""Write docs/beside.md from what the matrix has measured: ``python docs/beside_table.py``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests/beside"))

import measured

PAGE = Path(__file__).parent / "beside.md"
MARK = "<!-- the table: python docs/beside_table.py -->\n"
ORDERS = {"ours first": "after mlspan", "theirs first": "before mlspan"}
TITLES = {
    "ddtrace": "ddtrace",
    "genai": "OpenTelemetry's genai-openai",
    "laminar-browser_use": "Laminar, browser-use",
    "langfuse": "Langfuse",
    "logfire": "Logfire",
    "logfire-both": "Logfire, `suppress_other_instrumentation=False`",
    "mlflow": "MLflow's `mlflow.openai.autolog()`",
    "mlflow-deepagents": "MLflow's `mlflow.langchain.autolog()`, deepagents",
    "openinference": "OpenInference",
    "openinference-anthropic": "OpenInference, Anthropic's client",
    "openinference-deepagents": "OpenInference, deepagents",
    "openinference-google": "OpenInference, Google's client",
    "openllmetry": "OpenLLMetry",
    "openllmetry-anthropic": "OpenLLMetry, Anthropic's client",
    "openllmetry-google": "OpenLLMetry, Google's client",
}


def list_rows() -> list[str]:
    """Return the rows of the table: one for each tracer and order."""
    rows = [
        "| other tracer | turned on | the caller's results | mlspan's spans | its spans | tokens in MLflow |",
        "|---|---|---|---|---|---|",
    ]
    for peer, found in sorted(measured.read().items(), key=lambda item: TITLES[item[0]].lower()):
        versions = " ".join(found["versions"].values())
        for order, run in found["orders"].items():
            cells = [f"{TITLES[peer]} {versions}", ORDERS[order]]
            cells.append(name_calls(run["changed"], "same as without mlspan", "differ in"))
            cells += [describe_losses(run["ours lost"], run["said"]), name_calls(run["theirs lost"], "all", "fewer in")]
            rows.append("| " + " | ".join([*cells, describe_counts(run["counted"])]) + " |")
    return rows


def name_calls(names: list[str], none: str, some: str) -> str:
    return f"{some} {', '.join(names)}" if names else none


def describe_losses(lost: list[str], said: list[str]) -> str:
    return "suppressed; one warning names who does it" if lost and said else name_calls(lost, "all", "fewer in")


def describe_counts(counted: dict[str, int]) -> str:
    """Return how often the tokens of calls are in MLflow: ``once (14 calls)``."""
    words = {"0": "missing", "1": "once", "2": "twice"}
    return ", ".join(
        f"{words.get(key, key + ' times')} ({counted[key]} call{'s' * (counted[key] != 1)})"
        for key in sorted(counted, reverse=True)
    )


def build_page() -> str:
    """Return the page with its table made anew."""
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return before + MARK + "\n" + "\n".join(list_rows()) + "\n"


def write() -> None:
    PAGE.write_text(build_page(), encoding="utf-8")


if __name__ == "__main__":
    write()
