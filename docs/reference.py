"""Write the pages that the code itself knows: ``python docs/reference.py``. MkDocs does so before each build."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlspan import tracing
from mlspan.cli.places import FALLBACK_VARIABLES
from mlspan.integrations._training import predictions
from mlspan.integrations._training.logged_facts import LoggingRecord
from mlspan.integrations._training.record import TrainingRecord
from mlspan.integrations._training.search import SearchRecord, TrialRecord
from mlspan.tracing.operations import agent_records, database_records, records
from mlspan.tracing.operations import semconv as sc
from mlspan.tracing.settings.config import Config

CONVENTIONS = "https://github.com/open-telemetry/semantic-conventions-genai"

RECORDS = {  # record -> heading, and the names that its spans have
    records.Chat: ("Calls to a model", "`chat gpt-4o-mini`, `text_completion …`, `generate_content …`"),
    records.Embeddings: ("Embeddings", "`embeddings text-embedding-3-small`"),
    records.Fetch: ("Answers fetched later", "`fetch_response`"),
    records.Retrieval: ("Retrieval", "`retrieval docs`"),
    database_records.DatabaseSearch: ("Searches in a database", "`retrieval docs`"),
    database_records.DatabaseWrite: ("Writes to a database", "`upsert docs`, `delete docs` …"),
    records.Tool: ("Tools", "`execute_tool get_weather`"),
    records.Agent: ("Agents", "`invoke_agent assistant`"),
    agent_records.AgentCreation: ("Agents that are created", "`create_agent assistant`"),
    agent_records.Plan: ("Plans", "`plan assistant`"),
    agent_records.Memory: ("Memory", "`search_memory`, `create_memory`, `update_memory` …"),
    records.Workflow: ("Workflows", "`invoke_workflow order`"),
    records.ProviderRequest: ("Other requests to a provider", "`POST files`"),
    records.Step: ("Steps", "the name of the chain, node, parser or function"),
    TrainingRecord: ("Trainings", "`fit RandomForestClassifier`"),
    LoggingRecord: ("What trainings log", "`log model`"),
    SearchRecord: ("Searches for parameters", "`optimize iris`, `fmin`"),
    TrialRecord: ("Trials of a search", "`trial`"),
    predictions.PredictionRecord: ("Predictions", "`predict RandomForestClassifier`"),
}
TYPES = {"str": "string", "int": "int", "float": "double", "bool": "boolean"}
TYPES |= {"list[str]": "string[]", "list[int]": "int[]"}
WHEN = {"start": "start", "end": "end", "content": "end, as content"}

ANY_SPAN = {
    sc.ERROR_TYPE: ("string", "the type of the exception, or the provider's error code"),
    sc.SESSION_ID: ("string", "`tracing.session()`"),
    sc.USER_ID: ("string", "`tracing.user()`"),
    sc.TAG_PREFIX + "<key>": ("string", "`tracing.tags(key=…)`; becomes a tag of the trace in MLflow"),
    sc.PROMPT_NAME: ("string", "the provider's prompt template, with `gen_ai.prompt.version` and `.variable.<key>`"),
    sc.STREAM_END: ("string", "`closed` or `abandoned`: the stream was left before its end"),
}
LINKS = {
    "asked_by": "from a tool to the call to a model that asked for it",
    "triggered_by": "from a node of a graph to the nodes that led to it",
    "handed_off_by": "from an agent's turn to what handed over to it",
    "trained_by": "from a prediction to the training that made its model",
    "resumes": "from a run that goes on to the run that waited",
}
RELEASED = [
    "The conventions are in development and have no release of their own. The names are those of semantic",
    "conventions 1.41 and of OpenTelemetry's `util-genai` 1.3, with three newer ones:",
    "`gen_ai.usage.cache_write.input_tokens` for `cache_creation`, `gen_ai.retrieval.top_k` and",
    "`gen_ai.request.reasoning.level`. They follow no single version, so spans carry no schema URL unless the setting",
    "`schema_url` gives one. `plan` and the operations of memory with `gen_ai.memory.*` are not released yet; only",
    "spans of your own with these kinds have them. What is still under discussion is not used:",
    "`gen_ai.invocation.*`, `gen_ai.client.inference.*` in place of the metrics `gen_ai.client.*`,",
    "`handle_conversation_turn`, and parts of the type `generic`.",
]
METRICS = {
    sc.METRIC_OPERATION_DURATION: ("s", "how long an operation took, streams until their end"),
    sc.METRIC_TOKEN_USAGE: ("{token}", f"tokens, by `{sc.TOKEN_TYPE}`: `input` or `output`"),
    sc.METRIC_TIME_TO_FIRST_CHUNK: ("s", "until the first chunk of a stream came"),
    sc.METRIC_TIME_PER_OUTPUT_CHUNK: ("s", "from one chunk of a stream to the next"),
    sc.METRIC_TOOL_DURATION: ("s", "how long a tool took"),
    sc.METRIC_AGENT_DURATION: ("s", "how long a turn of an agent took"),
    sc.METRIC_WORKFLOW_DURATION: ("s", "how long a workflow took"),
    "otel.sdk.exporter.span.exported": (
        "{span}",
        "spans that a backend has taken, or with `error.type` refused for good",
    ),
    "otel.sdk.processor.span.processed": ("{span}", "spans dropped before any backend was asked, by `error.type`"),
    "mlspan.errors": ("{error}", "errors of mlspan's own code that reached nobody, by `mlspan.place`"),
    "otel.sdk.processor.span.queue.size": ("{span}", "spans that wait to be taken by every backend"),
}


def lines() -> Iterator[str]:
    yield "# Attributes"
    yield ""
    yield "<!-- Written by docs/reference.py from mlspan/tracing/operations/records.py: change those. -->"
    yield ""
    yield f"The attributes of spans have the names of the [OpenTelemetry GenAI conventions]({CONVENTIONS})."
    yield "Names that begin with `mlspan.` have no convention yet. An attribute is set only if its value is known:"
    yield "a parameter that was not sent is not recorded."
    yield "*start*: set when the span starts, so that samplers see it. *content*: one JSON string, subject to"
    yield "[your policy](privacy.md)."
    yield from ["", *RELEASED]
    yield from table("On any span", ANY_SPAN, "where from")
    for record, (heading, names) in RECORDS.items():
        yield from section(record, heading, names)
    yield from [
        "",
        "## Links",
        "",
        f"Each link says in `{sc.LINK}` what it is.",
        "",
        "| value | from, to |",
        "|---|---|",
    ]
    yield from (f"| `{value}` | {said} |" for value, said in LINKS.items())
    yield from table("Metrics", METRICS, "what it measures", of="metric", second="unit")
    yield ""
    yield "Metrics go through the MeterProvider that your application has set; without one nothing is measured."


def section(record: type[Any], heading: str, names: str) -> Iterator[str]:
    about = " ".join((record.__doc__ or "").split())
    yield from ["", f"## {heading}", ""]
    if about:
        yield from [about, ""]
    yield from [
        f"Span names: {names}. Kind: `{record.kind.name}`.",
        "",
        "| attribute | type | set at |",
        "|---|---|---|",
    ]
    types = {name: kind for cls in reversed(record.__mro__) for name, kind in inspect.get_annotations(cls).items()}
    for field, (name, when, _) in record.attrs.items():
        if name != sc.STREAM_END:
            kind = str(types[field]).replace(" | None", "")
            yield f"| `{name}` | {'JSON' if when == 'content' else TYPES.get(kind, kind)} | {WHEN[when]} |"


def table(
    heading: str, rows: dict[str, tuple[str, str]], third: str, of: str = "attribute", second: str = "type"
) -> Iterator[str]:
    yield from ["", f"## {heading}", "", f"| {of} | {second} | {third} |", "|---|---|---|"]
    yield from (f"| `{name}` | {kind} | {said} |" for name, (kind, said) in rows.items())


def settings() -> Iterator[str]:
    """A row for each field of Config, in the words of ``tracing.configure``."""
    said = re.split(r"\n {4}(?=\w+:)", inspect.getdoc(tracing.configure).partition("Args:")[2].partition("Raises:")[0])
    about = dict(" ".join(one.split()).split(": ", 1) for one in said if ":" in one)
    yield from [
        "---",
        "hide: [toc]",
        "---",
        "",
        "# Settings",
        "",
        "<!-- Written by docs/reference.py from mlspan/tracing/settings/config.py: change that. -->",
        "",
    ]
    yield "Each setting is an argument of `tracing.configure()` and an environment variable. If several give a value,"
    yield "the first of these wins: what the [policy](administration.md) locks, the argument, the policy, a variable of"
    yield "mlspan's, a variable of OpenTelemetry's or MLflow's. `mlspan doctor` prints each value and its source."
    yield from [
        "",
        '<div class="settings" markdown>',
        "",
        "| setting | variables | default | what it does |",
        "|---|---|---|---|",
    ]
    for field in dataclasses.fields(Config):
        names = [*field.metadata["environ"], *FALLBACK_VARIABLES.get(field.name, ())]
        default = "" if field.default is None else f"`{field.default}`"
        what = about.get(field.name, "").replace("``", "`").replace("|", "\\|")
        yield f"| `{field.name}` | {'<br>'.join(f'`{name}`' for name in names)} | {default} | {what} |"
    yield from ["", "</div>", "", "Switches that are variables only:", "", "| variable | what it does |", "|---|---|"]
    yield "| `OTEL_SDK_DISABLED=true` | no span is recorded |"
    yield "| `MLSPAN_POLICY=FILE` | one more [policy](administration.md), read after the machine's and the user's |"
    yield "| `MLSPAN_STRICT=1` | errors inside mlspan are raised instead of logged: for tests |"


PAGES = {"attributes.md": lines, "settings.md": settings}


def page(name: str) -> str:
    return "\n".join(PAGES[name]()) + "\n"


def write() -> None:
    """Bring the pages up to date, and leave alone those that are."""
    for name in PAGES:
        path = Path(__file__).parent / name
        if not path.exists() or path.read_text(encoding="utf-8") != page(name):
            path.write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    write()
