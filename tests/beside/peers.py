"""Other tracers of clients: how to turn each on as its documentation says, and how to count its spans."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from servers.scripted import Scripted

EXPORTER = InMemorySpanExporter()


class Seen(NamedTuple):
    """What there is after one call."""

    spans: Iterable[ReadableSpan]  # that the application's provider has exported
    traces: list[Any]  # that are new in MLflow


class Peer(NamedTuple):
    """One tracer: its name for readers, its distributions, and the function that turns it on and returns a counter."""

    title: str
    distributions: tuple[str, ...]
    turn_on: Callable[[], Callable[[Seen], int]]
    calls: str = "calls"  # the module of the calls that are made, of one client


def set_provider() -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)
    return provider


def scope_of(span: ReadableSpan) -> str:
    return span.instrumentation_scope.name if span.instrumentation_scope else ""


def count_others(seen: Seen) -> int:
    """Return how many spans neither the application nor mlspan has made."""
    return sum(scope_of(span) not in {"app", "mlspan"} for span in seen.spans)


def turn_on_nothing() -> Callable[[Seen], int]:
    set_provider()
    return count_others


def turn_on_openinference() -> Callable[[Seen], int]:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    set_provider()
    OpenAIInstrumentor().instrument()
    return count_others


def turn_on_openllmetry() -> Callable[[Seen], int]:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    set_provider()
    OpenAIInstrumentor().instrument()
    return count_others


def turn_on_instrumentor(name: str) -> Callable[[], Callable[[Seen], int]]:
    """Return what turns on an instrumentor, named as ``module:class``."""

    def turn_on() -> Callable[[Seen], int]:
        module, _, cls = name.partition(":")
        set_provider()
        getattr(importlib.import_module(module), cls)().instrument()
        return count_others

    return turn_on


def turn_on_genai() -> Callable[[Seen], int]:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    set_provider()
    OpenAIInstrumentor().instrument()
    return count_others


def turn_on_logfire() -> Callable[[Seen], int]:
    import logfire

    processors = [SimpleSpanProcessor(EXPORTER)]
    logfire.configure(
        send_to_logfire=False, console=False, inspect_arguments=False, additional_span_processors=processors
    )
    logfire.instrument_openai()
    return count_others


def turn_on_logfire_for_both() -> Callable[[Seen], int]:
    import logfire

    processors = [SimpleSpanProcessor(EXPORTER)]
    logfire.configure(
        send_to_logfire=False, console=False, inspect_arguments=False, additional_span_processors=processors
    )
    logfire.instrument_openai(suppress_other_instrumentation=False)
    return count_others


def turn_on_langfuse() -> Callable[[Seen], int]:
    from langfuse import Langfuse

    receiver = Scripted()
    receiver.reply({})
    Langfuse(
        public_key="pk",
        secret_key="sk",
        base_url=receiver.base_url.removesuffix("/v1"),
        tracer_provider=set_provider(),
    )

    return count_others


def turn_on_laminar() -> Callable[[Seen], int]:
    from lmnr import Laminar

    receiver, spans = Scripted(), InMemorySpanExporter()
    receiver.reply({})
    set_provider()  # which Laminar does not use: it makes one of its own
    port = int(receiver.base_url.removesuffix("/v1").rpartition(":")[2])
    Laminar.initialize(project_api_key="x", base_url="http://127.0.0.1", http_port=port, force_http=True)
    _find_provider_of_laminar().add_span_processor(SimpleSpanProcessor(spans))

    def count(_: Seen) -> int:
        # Of a connection with the browser it makes one span or two, alone as well: the time decides.
        number = sum(span.name != "cdp_use.session" for span in spans.get_finished_spans())
        spans.clear()
        return number

    return count


def _find_provider_of_laminar() -> TracerProvider:
    from lmnr.opentelemetry_lib import tracing

    return tracing._tracer_provider


def turn_on_mlflow_for_langchain() -> Callable[[Seen], int]:
    import mlflow.langchain

    set_provider()
    mlflow.langchain.autolog()
    return lambda seen: sum(span.name == "ChatOpenAI" for each in seen.traces for span in each.data.spans)


def turn_on_mlflow() -> Callable[[Seen], int]:
    import mlflow.openai

    set_provider()
    mlflow.openai.autolog()
    return lambda seen: sum(each.data.spans[0].name.endswith("Completions") for each in seen.traces if each.data.spans)


def turn_on_ddtrace() -> Callable[[Seen], int]:
    os.environ |= {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false"}
    from ddtrace import patch
    from ddtrace.trace import TraceFilter, tracer

    finished: list[Any] = []

    class Collect(TraceFilter):  # type: ignore[misc]
        def process_trace(self, spans: list[Any]) -> None:
            finished.extend(spans)

    tracer.configure(trace_processors=[Collect()])
    patch(openai=True)
    set_provider()

    def count(_: Seen) -> int:
        number = len(finished)
        finished.clear()
        return number

    return count


CLAUDE, GEMINI, DEEP, BROWSER = "calls_anthropic", "calls_google_genai", "calls_deepagents", "calls_browser_use"
PEERS = {
    "nothing": Peer("nothing", (), turn_on_nothing),
    f"nothing, {CLAUDE}": Peer("nothing", (), turn_on_nothing, CLAUDE),
    f"nothing, {GEMINI}": Peer("nothing", (), turn_on_nothing, GEMINI),
    f"nothing, {DEEP}": Peer("nothing", (), turn_on_nothing, DEEP),
    f"nothing, {BROWSER}": Peer("nothing", (), turn_on_nothing, BROWSER),
    "laminar-browser_use": Peer("Laminar", ("lmnr",), turn_on_laminar, BROWSER),
    "mlflow-deepagents": Peer("MLflow's autolog", ("mlflow",), turn_on_mlflow_for_langchain, DEEP),
    "openinference-deepagents": Peer(
        "OpenInference",
        ("openinference-instrumentation-langchain",),
        turn_on_instrumentor("openinference.instrumentation.langchain:LangChainInstrumentor"),
        DEEP,
    ),
    "openinference-anthropic": Peer(
        "OpenInference",
        ("openinference-instrumentation-anthropic",),
        turn_on_instrumentor("openinference.instrumentation.anthropic:AnthropicInstrumentor"),
        CLAUDE,
    ),
    "openllmetry-anthropic": Peer(
        "OpenLLMetry",
        ("opentelemetry-instrumentation-anthropic",),
        turn_on_instrumentor("opentelemetry.instrumentation.anthropic:AnthropicInstrumentor"),
        CLAUDE,
    ),
    "openinference-google": Peer(
        "OpenInference",
        ("openinference-instrumentation-google-genai",),
        turn_on_instrumentor("openinference.instrumentation.google_genai:GoogleGenAIInstrumentor"),
        GEMINI,
    ),
    "openllmetry-google": Peer(
        "OpenLLMetry",
        ("opentelemetry-instrumentation-google-generativeai",),
        turn_on_instrumentor("opentelemetry.instrumentation.google_generativeai:GoogleGenerativeAiInstrumentor"),
        GEMINI,
    ),
    "openinference": Peer("OpenInference", ("openinference-instrumentation-openai",), turn_on_openinference),
    "openllmetry": Peer("OpenLLMetry", ("opentelemetry-instrumentation-openai",), turn_on_openllmetry),
    "genai": Peer("OpenTelemetry's genai-openai", ("opentelemetry-instrumentation-genai-openai",), turn_on_genai),
    "logfire": Peer("Logfire", ("logfire",), turn_on_logfire),
    "logfire-both": Peer("Logfire, `suppress_other_instrumentation=False`", ("logfire",), turn_on_logfire_for_both),
    "langfuse": Peer("Langfuse", ("langfuse",), turn_on_langfuse),
    "mlflow": Peer("MLflow's autolog", ("mlflow",), turn_on_mlflow),
    "ddtrace": Peer("ddtrace", ("ddtrace",), turn_on_ddtrace),
}
