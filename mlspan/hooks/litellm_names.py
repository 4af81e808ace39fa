"""LiteLLM's names of providers. Several frameworks put them before the name of a model: ``bedrock/amazon.nova-pro``."""

from __future__ import annotations

from typing import Final

_PROVIDERS: Final = {  # LiteLLM's name -> the conventions', where they differ
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
}


def find_litellm_provider(name: str) -> str:
    """Return the value of ``gen_ai.provider.name`` for LiteLLM's name of a provider: that name, unless they differ."""
    return _PROVIDERS.get(name, "gcp.vertex_ai" if name.startswith("vertex_ai") else name)
