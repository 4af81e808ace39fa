"""Names of providers in dialects, and those of the conventions."""

from __future__ import annotations

from typing import Final

from ...operations import semconv as sc

_NAMES: Final = {
    "az.ai.openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "gemini": "gcp.gemini",
    "google.generative-ai": "gcp.gemini",
    "google_genai": "gcp.gen_ai",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "google.vertex": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "gcp.vertex.agent": "gcp.gemini",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    "watsonx": "ibm.watsonx.ai",
    "ibm": "ibm.watsonx.ai",
    "moonshot": "moonshot_ai",
}
_INTERFACES: Final = (".chat", ".responses", ".completion", ".messages", ".embedding", ".image", ".speech")
_FRAMEWORKS: Final = {"langchain", "llamaindex", "llama_index", "crewai", "haystack"}  # which name themselves


def normalize_provider(provider: str) -> dict[str, str | None]:
    """Return the attribute for a provider; of a framework that names itself, none."""
    name = provider.lower()
    for interface in _INTERFACES:  # Vercel's names have the interface at the end
        name = name.removesuffix(interface)
    if name in _FRAMEWORKS:
        return {sc.PROVIDER: None}
    return {sc.PROVIDER: _NAMES.get(name, name)}
