"""The library of each integration, known without importing the integration.

Most integrations have the name by which their library is imported; only the others stand here. A namespace package, a
folder without ``__init__.py``, is none to wait for: nobody is told of its import.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ..hooks.deferred_settings import Library


def _make_training(*modules: str) -> Library:
    """Return a library that trains; MLflow's import also counts, as its own autologging may be asked for then."""
    return Library((*modules, "mlflow"), trains=True)


_LIBRARIES: Final[dict[str, Library]] = {
    "ag2": Library(("ag2", "autogen")),
    "autogen": Library(("autogen_agentchat", "autogen_core", "autogen_ext")),
    "azure_ai_inference": Library(("azure.ai.inference",)),
    "bedrock": Library(("botocore", "aiobotocore")),
    "cerebras": Library(("cerebras.cloud.sdk",)),
    "fastai": _make_training("fastai"),
    "gluon": _make_training("mxnet"),
    "google_adk": Library(("google.adk",)),
    "google_genai": Library(("google.genai",)),
    "keras": _make_training("keras"),
    "langchain": Library(("langchain_core",)),
    "langgraph": Library(("langgraph.pregel",)),
    "lightgbm": _make_training("lightgbm"),
    "lightning": _make_training("lightning", "pytorch_lightning"),
    "livekit": Library(("livekit.agents",)),
    "llama_index": Library(("llama_index.core",)),
    "mcp": Library(("mcp", "fastmcp")),
    "mistralai": Library(("mistralai.client",)),
    "openai": Library(("openai", "agents")),
    "paddle": _make_training("paddle"),
    "pgvector": Library(("psycopg",)),
    "pyfunc": Library(("mlflow",)),
    "ray": Library(("ray.tune",)),
    "redis": Library(("redis", "redisvl")),
    "sklearn": _make_training("sklearn"),
    "spark": _make_training("pyspark"),
    "statsmodels": _make_training("statsmodels"),
    "tensorflow": _make_training("tensorflow", "keras"),
    "xgboost": _make_training("xgboost"),
}


def find_library(name: str) -> Library:
    """Return the library of the integration *name*."""
    return _LIBRARIES.get(name) or Library((name,))


_FLAVORS: Final = {  # MLflow's names of what has another name here
    "gemini": "google_genai",
    "mistral": "mistralai",
    "pyspark.ml": "spark",
    "pytorch": "lightning",
}


def find_excluded(flavors: Collection[str]) -> set[str]:
    """Return the names of the integrations that *flavors* names, by our names or by those of MLflow's flavors."""
    return {_FLAVORS.get(flavor, flavor) for flavor in flavors}
