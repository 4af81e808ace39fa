"""What we are measured against, each in an environment of its own, at the newest versions there are."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _mlspan(_: Any) -> None:
    from mlspan import integrations, tracing

    tracing.configure(tracking_uri="none")
    integrations.autolog()


def _instrumentors(*paths: str) -> Callable[[Any], None]:
    """``module:Class`` of OpenTelemetry instrumentors, which find the global provider themselves."""

    def turn_on(_: Any) -> None:
        for path in paths:
            module, _, name = path.partition(":")
            getattr(importlib.import_module(module), name)().instrument()

    return turn_on


def _genai(provider: Any) -> None:
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    _instrumentors(
        "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor",
        "opentelemetry.instrumentation.genai.langchain:LangChainInstrumentor",
    )(provider)


def _logfire(provider: Any) -> None:
    import logfire

    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
    for processor in provider._active_span_processor._span_processors:
        logfire.DEFAULT_LOGFIRE_INSTANCE.config.get_tracer_provider().add_span_processor(processor)
    logfire.instrument_openai()


def _mlflow(provider: Any) -> None:
    import mlflow
    from mlflow.entities import trace_location
    from mlflow.tracing import set_destination
    from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter
    from mlflow.tracing.processor.base_mlflow import BaseMlflowSpanProcessor

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    mlflow.set_tracking_uri(tempfile.mkdtemp())
    counting = provider._active_span_processor._span_processors[0]

    own = BaseMlflowSpanProcessor.on_end

    def on_end(self: Any, span: Any) -> None:
        counting.on_end(span)
        own(self, span)

    BaseMlflowSpanProcessor.on_end = on_end
    MlflowV3SpanExporter.export = lambda *_: None  # as everybody's here, its exporting costs nothing
    set_destination(trace_location.MlflowExperimentLocation("0"))
    mlflow.openai.autolog()
    mlflow.langchain.autolog()


@dataclass(frozen=True)
class Peer:
    name: str
    packages: tuple[str, ...]
    turn_on: Callable[[Any], None]
    cases: tuple[str, ...] = ("chat", "stream", "async", "langchain", "langgraph")


PEERS = {
    "mlspan": Peer("mlspan", (), _mlspan),
    "otel": Peer(
        "OpenTelemetry GenAI",
        ("opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-langchain"),
        _genai,
        cases=("chat", "stream", "async"),  # of LangChain it records the models of some providers only
    ),
    "openinference": Peer(
        "OpenInference",
        ("openinference-instrumentation-openai", "openinference-instrumentation-langchain"),
        _instrumentors(
            "openinference.instrumentation.openai:OpenAIInstrumentor",
            "openinference.instrumentation.langchain:LangChainInstrumentor",
        ),
    ),
    "openllmetry": Peer(
        "OpenLLMetry",
        ("opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-langchain"),
        _instrumentors(
            "opentelemetry.instrumentation.openai:OpenAIInstrumentor",
            "opentelemetry.instrumentation.langchain:LangchainInstrumentor",
        ),
    ),
    "logfire": Peer("Logfire", ("logfire",), _logfire, cases=("chat", "stream", "async")),
    "mlflow": Peer("MLflow autolog", ("mlflow", "langchain"), _mlflow),
}
CLIENTS = ("openai", "opentelemetry-sdk", "langchain-core", "langgraph")  # what every environment has besides
