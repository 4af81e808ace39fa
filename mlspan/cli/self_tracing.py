"""Libraries that trace themselves, and instrumentations beside ours: what of them is installed, and would be seen."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from ..tracing.otel.usage_telemetry import USAGE_TELEMETRY
from .libraries import LibraryStatus, find_version
from .places import EffectiveSetting

_LIBRARIES: Final = {  # distribution -> the first major version that has spans of its own, and what turns them on
    "agent-framework-core": (1, "enable_instrumentation()"),
    "anthropic": (2, None),
    "azure-ai-inference": (1, "AIInferenceInstrumentor().instrument()"),
    "fastmcp": (3, None),
    "google-adk": (1, None),
    "livekit-agents": (1, None),
    "mcp": (2, None),
    "mistralai": (2, None),
    "pipecat-ai": (0, "PipelineWorker(enable_tracing=True)"),
    "pydantic-ai-slim": (0, "Agent.instrument_all()"),
    "semantic-kernel": (1, "SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS=true"),
    "strands-agents": (1, None),
    "xai-sdk": (1, None),
}
_INTEGRATIONS: Final = {  # of the libraries above, where it has another name
    "agent-framework-core": "agent_framework",
    "fastmcp": "mcp",
    "livekit-agents": "livekit",
    "pipecat-ai": "pipecat",
    "pydantic-ai-slim": "pydantic_ai",
    "strands-agents": "strands",
}
_FOLDED: Final = frozenset({"anthropic", "azure-ai-inference", "fastmcp", "mcp", "mistralai", "xai-sdk"})  # into ours
_MLFLOW_FLAVORS: Final = {  # our integration -> MLflow's name of a library whose calls its own autolog traces
    **{
        name: name
        for name in (
            *("ag2", "agno", "anthropic", "autogen", "bedrock", "crewai", "dspy", "groq", "haystack", "langchain"),
            *("litellm", "llama_index", "openai", "pydantic_ai", "semantic_kernel", "smolagents", "strands"),
        )
    },
    "google_genai": "gemini",
    "mistralai": "mistral",
}
_INSTRUMENTATION: Final = re.compile(r"(?:openinference|opentelemetry)[-_]instrumentation[-_](?:genai[-_])?(.+)")
_SAME: Final = {"llama_index": "llamaindex", "llama_index_core": "llamaindex", "langchain_core": "langchain"}


@dataclass(frozen=True)
class SelfTracingLibrary:
    """An installed library with spans of its own. *switch* turns them on; None: they are on."""

    name: str
    version: str
    switch: str | None
    is_seen: bool  # whether mlspan makes sure that they are recorded


@dataclass(frozen=True)
class SecondTracer:
    """An installed instrumentation, or an autolog of MLflow's, of a library that mlspan traces as well."""

    name: str
    library: str


def list_self_tracing(found: Mapping[str, EffectiveSetting]) -> list[SelfTracingLibrary]:
    """Return the installed libraries that make spans of their own."""
    is_seen = str(found["global_provider"].value).lower() == "true"
    listed = []
    for name, (first, switch) in _LIBRARIES.items():
        version = find_version(name)
        major = version.partition(".")[0] if version is not None else ""
        if version is not None and major.isdigit() and int(major) >= first:
            listed.append(SelfTracingLibrary(name, version, switch, is_seen))
    return listed


def list_second_tracers(libraries: Iterable[LibraryStatus]) -> list[SecondTracer]:
    """Return the installed instrumentations of libraries that mlspan traces and that are installed too.

    MLflow's own autologs are the last.
    """
    installed = [library for library in libraries if library.version is not None]
    traced = {_normalize(library.name): library.name for library in installed}
    names = {str(each.metadata["Name"] or "") for each in importlib.metadata.distributions()}
    found = []
    for name in sorted(names):
        match = _INSTRUMENTATION.fullmatch(name)
        if match is not None and (library := traced.get(_normalize(match[1]))) is not None:
            found.append(SecondTracer(name, library))
    if find_version("mlflow") is None and find_version("mlflow-skinny") is None:
        return found
    libraries_by_flavor = {
        _MLFLOW_FLAVORS[library.integration]: library.name
        for library in reversed(installed)  # of several libraries, the first
        if library.integration in _MLFLOW_FLAVORS
    }
    return found + [
        SecondTracer(f"mlflow.{flavor}.autolog()", libraries_by_flavor[flavor])
        for flavor in sorted(libraries_by_flavor)
    ]


def check_usage_telemetry(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each installed library whose usage telemetry becomes the program's TracerProvider."""
    from ..hooks.version_range import is_version_in_range

    for telemetry in USAGE_TELEMETRY.values():
        version, (switch, _, off) = find_version(telemetry.distribution), telemetry.switch.partition("=")
        is_off = environ.get(switch, "").lower() == off
        if version is not None and not is_off and is_version_in_range(version, f"<{telemetry.fixed_in}"):
            yield (
                f"{telemetry.library} {version} makes its own telemetry the TracerProvider of a program that has set "
                f"none, and so its maker gets the spans of other libraries: set {telemetry.switch}, or install "
                f"{telemetry.distribution}>={telemetry.fixed_in}"
            )


def _normalize(name: str) -> str:
    """Return the name of a library as instrumentations spell it: ``langchain-core`` is ``langchain``."""
    plain = name.lower().replace("-", "_")
    return _SAME.get(plain, plain)


def format_self_tracing(libraries: Iterable[SelfTracingLibrary], tracers: Iterable[SecondTracer]) -> Iterator[Text]:
    """Yield a line for each library that traces itself, and for each that is traced twice; one for all MLflow's."""
    autologs: list[SecondTracer] = []
    others: list[SecondTracer] = []
    for tracer in tracers:
        (autologs if tracer.name.startswith("mlflow.") else others).append(tracer)
    for library in libraries:
        integration = _INTEGRATIONS.get(library.name, library.name.replace("-", "_"))
        call = f"integrations.{integration}.autolog()"
        if library.name in _FOLDED:
            says = f"has spans of its own; with {call} a call is one span all the same"
        else:
            says = f"traces itself; {call} records its spans"
        yield Text(f"  - {library.name} {library.version}").append(f"  {says}", "dim")
    for tracer in others:
        line = Text(f"  - {tracer.name}")
        yield line.append(
            f"  if a program turns it on, it traces {tracer.library} beside mlspan; MLflow counts a call once", "dim"
        )
    if autologs:
        line = Text(f"  - {', '.join(tracer.name for tracer in autologs)}")
        one = "it" if len(autologs) == 1 else "one"
        says = f"  came with MLflow; a program that calls {one} beside mlspan's may count calls twice"
        yield line.append(says, "dim")
