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
MORE = {  # what no record holds as a field of its own
    sc.INTERRUPTED: ("boolean", "true: the run has ended to wait for a person"),
    sc.PROMPTS: ("string[]", "`name/version` of each prompt of MLflow's registry that was used"),
    sc.CLIENT_REQUEST_ID: ("string", "`tracing.request_id()`: what the caller's own system calls the request"),
    sc.COUNTED_BY: ("string", "whose tokens count in place of this span's: a span's id, or `calls below`"),
    sc.INSTRUMENTATION: ("string", "the scope of a span that another library has made"),
    sc.REQUEST_VERBOSITY: ("string", "`low`, `medium` or `high`"),
    sc.REQUEST_RETRIES: ("int", "how often the client itself has sent the request again"),
    sc.RESPONSE_SERVICE_TIER: ("string", "in which the call was billed, where the provider is not OpenAI"),
    sc.RESPONSE_UPSTREAM: ("string", "the provider behind the one that was asked, such as a router"),
    sc.USAGE_COST: ("double", "US dollars, where the provider says what it charges"),
    sc.USAGE_INPUT_COST: ("double", "the part of it that is for the input"),
    sc.USAGE_ESTIMATED_COST: ("double", "US dollars by a framework's price list, for models that ours lacks"),
    sc.USAGE_LONG_CACHE_WRITE_INPUT_TOKENS: ("int", "of the cache writes, those that are kept for an hour"),
    "mlspan.usage.tool_use_prompt_tokens": ("int", "Gemini: of the input, what its own tools have read"),
    sc.USAGE_PREFIX + "<name>": ("int", "a count that the conventions have no name for, by the provider's own name"),
    sc.GUARDRAIL_ACTION: ("string", "what a guardrail has done, in the provider's words"),
    "mlspan.guardrail.triggered": ("boolean", "whether a guardrail of the Agents SDK has stopped the run"),
    "mlspan.stop_reason": ("string", "why an agent stopped, in the framework's words, where it is not simply done"),
    "mlspan.request.id": ("string", "the id of the stored object that a request is about"),
    "mlspan.request.count": ("int", "the number of requests in a batch"),
    "mlspan.response.id": ("string", "the id of the stored object in the answer"),
    "mlspan.response.status": ("string", "its status, in the provider's words"),
    "mlspan.response.bytes": ("int", "its size"),
    "mlspan.response.count": ("int", "the number of objects in a list"),
    "mlspan.audio.seconds": ("double", "how long the audio is"),
    "mlspan.moderation.flagged": ("int", "how many inputs a moderation has flagged"),
    sc.ASSESSMENT: ("boolean", "the span only carries an event for another span, which has ended"),
    sc.ASSESSMENT_NAME: ("string", "of an event: the name of an expectation"),
    sc.ASSESSMENT_VALUE: ("JSON", "of an event: the value with its type, which the score does not keep"),
    sc.ASSESSMENT_SOURCE: ("string", "of an event: `human`, `llm_judge` or `code`"),
    sc.ASSESSMENT_SOURCE_ID: ("string", "of an event: who or what it was"),
    sc.ASSESSMENT_METADATA: ("JSON", "of an event"),
    sc.TRACE_UPDATE: ("JSON", "what MLflow's own functions have written to the trace"),
}
OF_FRAMEWORKS = {
    "mlspan.agno.status": ("string", "Agno: the status of a run, in lower case"),
    "mlspan.browser_use.success": ("boolean", "browser-use: what the agent says of its own answer"),
    "mlspan.browser_use.verdict": ("boolean", "browser-use: what the judge says of it"),
    "mlspan.crewai.agents": ("string[]", "CrewAI: the roles of a crew"),
    "mlspan.crewai.process": ("string", "CrewAI: `sequential` or `hierarchical`"),
    "mlspan.crewai.cached": ("boolean", "CrewAI: the tool's result came from the cache"),
    "mlspan.dspy.signature": ("string", "DSPy: the signature of a module"),
    "mlspan.dspy.program": ("string", "DSPy: the class of the program that is evaluated"),
    "mlspan.dspy.program.version": ("string", "DSPy: changes with the program's instructions and examples"),
    "mlspan.dspy.examples": ("int", "DSPy: the number of examples in an evaluation"),
    "mlspan.dspy.cached": ("boolean", "DSPy: the answer came from the cache"),
    "mlspan.haystack.document_store": ("string", "Haystack: the class of a retriever's store"),
    "mlspan.instructor.attempts": ("int", "Instructor: how often the model was asked"),
    "mlspan.langchain.tags": ("string[]", "LangChain: the tags of a run"),
    "mlspan.langchain.cached": ("boolean", "LangChain: the answer came from the cache"),
    "mlspan.langgraph.state_keys": ("string[]", "LangGraph: the keys of the state that a node has changed"),
    "mlspan.langgraph.step": ("int", "LangGraph: the step in which a node ran"),
    "mlspan.llama_index.top_n": ("int", "LlamaIndex: how many nodes a reranker keeps"),
    "mlspan.llama_index.vector_store": ("string", "LlamaIndex: the class of a retriever's store"),
    "mlspan.mem0.user_id": ("string", "Mem0: whose memories they are; a user"),
    "mlspan.mem0.agent_id": ("string", "Mem0: an agent"),
    "mlspan.mem0.run_id": ("string", "Mem0: a run"),
    "mlspan.mem0.app_id": ("string", "Mem0: an application"),
    "mlspan.smolagents.agent_class": ("string", "smolagents: the class of an agent"),
    "mlspan.smolagents.executor": ("string", "smolagents: the class of what runs an agent's code"),
}
IN_MLFLOW = {  # set where a trace is stored in MLflow; an OTLP receiver gets none of them
    "mlspan.missing_parent": ("string", "the id of a parent that has not come: the span is stored as a root"),
    "mlspan.preview": ("boolean", "the root holds but its trace's previews, until the real one replaces it"),
    "mlspan.uncounted_usage": ("JSON", "tokens of a span that count nowhere, such as negative ones"),
    "mlspan.unreadable": ("JSON", "what could not be put in MLflow's names, and why"),
    "mlspan.waiting": ("string", "tag of a trace: `true` if it has ended to wait for a person"),
    "mlspan.resumes": ("string", "tag of a trace: the id of the trace that waited, and that this one goes on with"),
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
    yield from table("More of mlspan's own", MORE, "meaning")
    yield from table("Of single frameworks", OF_FRAMEWORKS, "meaning")
    yield from table("Only in MLflow", IN_MLFLOW, "meaning")
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
