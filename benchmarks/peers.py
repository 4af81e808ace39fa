"""What we are measured against, each in an environment of its own, at the newest versions there are.

Each is turned on as its documentation says, content included; its spans go to the processor that counts them.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry import trace


def trace_with_mlspan(provider: Any) -> None:
    from mlspan import integrations, tracing

    trace.set_tracer_provider(provider)
    tracing.configure(tracking_uri="none")
    integrations.autolog()


def trace_with_hook(name: str) -> Callable[[Any], None]:
    """One integration of ours alone, as the instrumentors of others are."""

    def turn_on(provider: Any) -> None:
        from mlspan import integrations, tracing

        trace.set_tracer_provider(provider)
        tracing.configure(tracking_uri="none")
        getattr(integrations, name).autolog()

    return turn_on


Switch = Callable[[bool], None]  # turns on what is off, and off what is on, any number of times


def switch_hook(name: str) -> Switch:
    """One integration of ours, or all by ""."""

    def switch(on: bool) -> None:
        from mlspan import integrations

        (getattr(integrations, name) if name else integrations).autolog(disable=not on)

    return switch


def switch_instrumentor(path: str) -> Switch:
    def switch(on: bool) -> None:
        module, _, name = path.partition(":")
        instrumentor = getattr(importlib.import_module(module), name)()  # the only one of its class
        instrumentor.instrument() if on else instrumentor.uninstrument()

    return switch


def switch_flavor(flavor: str) -> Switch:
    return lambda on: importlib.import_module(f"mlflow.{flavor}").autolog(disable=not on)


def instrumentors(*paths: str) -> Callable[[Any], None]:
    """``module:Class`` of OpenTelemetry instrumentors, which find the global provider themselves."""

    def turn_on(provider: Any) -> None:
        trace.set_tracer_provider(provider)
        for path in paths:
            module, _, name = path.partition(":")
            getattr(importlib.import_module(module), name)().instrument()

    return turn_on


def _genai(*paths: str) -> Callable[[Any], None]:
    instrument = instrumentors(*(f"opentelemetry.instrumentation.genai.{path}" for path in paths))

    def turn_on(provider: Any) -> None:
        os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"
        os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
        instrument(provider)

    return turn_on


def _logfire(provider: Any) -> None:
    import logfire

    counting = provider._active_span_processor._span_processors
    logfire.configure(
        send_to_logfire=False, console=False, inspect_arguments=False, additional_span_processors=[*counting]
    )
    logfire.instrument_openai()


def _langfuse(provider: Any) -> None:
    """Langfuse's client of OpenAI's, and its handler for LangChain, which is handed to every run.

    Its own processor leaves: as everybody's here, its exporting costs nothing.
    """
    from langchain_core.tracers.context import register_configure_hook
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    counting = provider._active_span_processor._span_processors
    Langfuse(public_key="pk", secret_key="sk", base_url="http://127.0.0.1", tracer_provider=provider)
    provider._active_span_processor._span_processors = counting
    importlib.import_module("langfuse.openai")
    handler: ContextVar[Any] = ContextVar("langfuse")
    handler.set(CallbackHandler())
    register_configure_hook(handler, inheritable=True)


def _llama_index(provider: Any) -> None:
    """LlamaIndex's own, which always adds a processor with an exporter: as everybody's here, it costs nothing."""
    from llama_index.observability.otel import LlamaIndexOpenTelemetry

    counting = provider._active_span_processor._span_processors
    LlamaIndexOpenTelemetry(tracer_provider=provider).start_registering()
    provider._active_span_processor._span_processors = counting


def trace_with_mlflow(*flavors: str) -> Callable[[Any], None]:
    """MLflow, whose spans go to a provider of its own, through a processor of its own, to the counting one as well."""

    def turn_on(provider: Any) -> None:
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
        for flavor in flavors:
            importlib.import_module(f"mlflow.{flavor}").autolog()

    return turn_on


CALLS = ("chat", "stream", "async", "langchain", "langgraph")
# What an environment has besides, at the newest versions that we support.
CLIENTS = ("openai", "opentelemetry-sdk", "langchain-core", "langgraph")
LLAMA_INDEX = (  # the last as OpenLLMetry's does not import where no model has a package
    "opentelemetry-sdk",
    "llama-index-core>=0.14,<0.15",
    "llama-index-workflows>=2.16,<3",
    "llama-index-llms-openai",
)
AUTOGEN = ("opentelemetry-sdk", "autogen-agentchat>=0.7,<0.8", "autogen-ext[openai]>=0.7,<0.8")
OURSELVES = ("--editable", str(Path(__file__).parent.parent))


@dataclass(frozen=True)
class Peer:
    name: str
    packages: tuple[str, ...]
    turn_on: Callable[[Any], None]
    cases: tuple[str, ...] = CALLS
    beside: tuple[str, ...] = CLIENTS
    switch: Switch | None = None  # None: what is on stays on


PEERS = {
    "mlspan": Peer("mlspan", (), trace_with_mlspan),  # in the environment that we are in
    "otel": Peer(
        "OpenTelemetry GenAI",
        ("opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-langchain", "langchain"),
        _genai("openai:OpenAIInstrumentor", "langchain:LangChainInstrumentor"),
    ),
    "openinference": Peer(
        "OpenInference",
        ("openinference-instrumentation-openai", "openinference-instrumentation-langchain"),
        instrumentors(
            "openinference.instrumentation.openai:OpenAIInstrumentor",
            "openinference.instrumentation.langchain:LangChainInstrumentor",
        ),
    ),
    "openllmetry": Peer(
        "OpenLLMetry",
        ("opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-langchain"),
        instrumentors(
            "opentelemetry.instrumentation.openai:OpenAIInstrumentor",
            "opentelemetry.instrumentation.langchain:LangchainInstrumentor",
        ),
    ),
    "logfire": Peer("Logfire", ("logfire",), _logfire, ("chat", "stream", "async")),
    "langfuse": Peer("Langfuse", ("langfuse", "langchain"), _langfuse),
    "mlflow": Peer("MLflow autolog", ("mlflow", "langchain"), trace_with_mlflow("openai", "langchain")),
    # Frameworks whose pins do not agree with those above, nor with one another: ourselves in their environments too.
    "mlspan-llama_index": Peer("mlspan", OURSELVES, trace_with_mlspan, ("llama_index",), LLAMA_INDEX),
    "otel-llama_index": Peer(
        "OpenTelemetry GenAI",
        ("opentelemetry-instrumentation-genai-llama-index",),
        _genai("llama_index:LlamaIndexInstrumentor"),
        ("llama_index",),
        LLAMA_INDEX,
    ),
    "openinference-llama_index": Peer(
        "OpenInference",
        ("openinference-instrumentation-llama-index",),
        instrumentors("openinference.instrumentation.llama_index:LlamaIndexInstrumentor"),
        ("llama_index",),
        LLAMA_INDEX,
    ),
    "openllmetry-llama_index": Peer(
        "OpenLLMetry",
        ("opentelemetry-instrumentation-llamaindex",),
        instrumentors("opentelemetry.instrumentation.llamaindex:LlamaIndexInstrumentor"),
        ("llama_index",),
        LLAMA_INDEX,
    ),
    "mlflow-llama_index": Peer(
        "MLflow autolog", ("mlflow",), trace_with_mlflow("llama_index"), ("llama_index",), LLAMA_INDEX
    ),
    "llama_index": Peer(
        "LlamaIndex's own", ("llama-index-observability-otel",), _llama_index, ("llama_index",), LLAMA_INDEX
    ),
    "mlspan-autogen": Peer("mlspan", OURSELVES, trace_with_mlspan, ("autogen",), AUTOGEN),
    "openinference-autogen": Peer(
        "OpenInference",
        ("openinference-instrumentation-autogen-agentchat",),
        instrumentors("openinference.instrumentation.autogen_agentchat:AutogenAgentChatInstrumentor"),
        ("autogen",),
        AUTOGEN,
    ),
    "mlflow-autogen": Peer("MLflow autolog", ("mlflow",), trace_with_mlflow("autogen"), ("autogen",), AUTOGEN),
    "autogen": Peer(  # of agents and tools, without content; whoever sets a provider gets them
        "AutoGen's own", ("autogen-core",), trace.set_tracer_provider, ("autogen",), AUTOGEN
    ),
}
