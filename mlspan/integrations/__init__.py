"""Integrations, one module for each framework.

``integrations.openai.autolog()`` turns one on, ``integrations.autolog()`` turns all of them on. Those that other
distributions register (see :mod:`mlspan.hooks.catalog`) are attributes of this package, too.

The modules of this folder are the integrations: ``__all__``, ``autolog``, the command line and the docs take them from
there. Adding one is its file, and its line below, from which type checkers know it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Final

from ..hooks import catalog
from ..hooks.named_arguments import noting_names, read_named

if TYPE_CHECKING:
    from . import ag2 as ag2
    from . import agent_framework as agent_framework
    from . import agno as agno
    from . import anthropic as anthropic
    from . import autogen as autogen
    from . import azure_ai_inference as azure_ai_inference
    from . import bedrock as bedrock
    from . import browser_use as browser_use
    from . import cerebras as cerebras
    from . import chromadb as chromadb
    from . import claude_agent_sdk as claude_agent_sdk
    from . import cohere as cohere
    from . import crewai as crewai
    from . import dspy as dspy
    from . import elasticsearch as elasticsearch
    from . import fastai as fastai
    from . import fireworks as fireworks
    from . import gluon as gluon
    from . import google_adk as google_adk
    from . import google_genai as gemini  # noqa: F401  # the name that MLflow's users know
    from . import google_genai as google_genai
    from . import groq as groq
    from . import haystack as haystack
    from . import huggingface_hub as huggingface_hub
    from . import hyperopt as hyperopt
    from . import instructor as instructor
    from . import keras as keras
    from . import lancedb as lancedb
    from . import langchain as langchain
    from . import langgraph as langgraph
    from . import lightgbm as lightgbm
    from . import lightning as lightning
    from . import litellm as litellm
    from . import livekit as livekit
    from . import llama_index as llama_index
    from . import mcp as mcp
    from . import mem0 as mem0
    from . import mistralai as mistralai
    from . import ollama as ollama
    from . import openai as openai
    from . import opensearchpy as opensearchpy
    from . import optuna as optuna
    from . import paddle as paddle
    from . import perplexity as perplexity
    from . import pgvector as pgvector
    from . import pinecone as pinecone
    from . import pipecat as pipecat
    from . import pydantic_ai as pydantic_ai
    from . import pyfunc as pyfunc
    from . import pymilvus as pymilvus
    from . import qdrant_client as qdrant_client
    from . import ray as ray
    from . import redis as redis
    from . import semantic_kernel as semantic_kernel
    from . import sklearn as sklearn
    from . import smolagents as smolagents
    from . import spark as spark
    from . import statsmodels as statsmodels
    from . import strands as strands
    from . import tensorflow as tensorflow
    from . import together as together
    from . import transformers as transformers
    from . import vllm as vllm
    from . import weaviate as weaviate
    from . import workers as workers
    from . import xai_sdk as xai_sdk
    from . import xgboost as xgboost

_INTEGRATION_NAMES: Final = tuple(
    module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith(("_", "workers"))
)
catalog.register_integrations({name: f"{__name__}.{name}" for name in _INTEGRATION_NAMES})

__all__ = ["Instrumentor", "autolog", "workers", *_INTEGRATION_NAMES]  # noqa: PLE0604  # they are strings


@noting_names
def autolog(
    log_input_examples: bool = False,
    log_model_signatures: bool = True,
    log_models: bool = True,
    log_datasets: bool = True,
    log_traces: bool = True,
    disable: bool = False,
    exclusive: bool = False,
    disable_for_unsupported_versions: bool = True,
    silent: bool = False,
    extra_tags: Mapping[str, str] | None = None,
    exclude_flavors: Collection[str] | None = None,
    *,
    registered_model_name: str | None = None,
    workers: bool = True,
) -> None:
    """Turn on every integration whose library is imported already, or will be; import none of them.

    Trainings become runs in MLflow and spans; calls to models, chains and agents become spans. Each integration's own
    ``autolog`` has further options, and takes precedence by being called later.

    Args:
        log_input_examples: log a few rows of the training data with each model.
        log_model_signatures: log the signature of each model with it.
        log_models: log trained models.
        log_datasets: log what a model was trained with as the run's inputs.
        log_traces: record spans.
        disable: take every patch back, MLflow's too.
        exclusive: log and record nothing while the caller has an MLflow run active.
        disable_for_unsupported_versions: leave alone the versions of libraries that the tests have not seen.
        silent: write no log line about it, and have MLflow write none.
        extra_tags: tags of the runs that are started for trainings.
        exclude_flavors: the integrations to leave as they are, by their names or by those of MLflow's flavors.
        registered_model_name: register each trained model under this name.
        workers: have what other processes do for the caller (Spark, Ray, Dask, joblib, multiprocessing, Celery,
            Lightning) join the caller's trace and run.

    Raises:
        MlflowException: a value is one that MLflow refuses; ValueError without MLflow.
    """
    from ..hooks.autolog_settings import AutologSettings
    from ..hooks.deferred_settings import apply_settings, turn_on
    from . import workers as _workers
    from ._libraries import find_excluded, find_library
    from ._training.refused_options import check_tags

    check_tags(extra_tags)
    excluded = find_excluded(exclude_flavors or ())
    training = {
        "log_input_examples": log_input_examples,
        "log_model_signatures": log_model_signatures,
        "log_models": log_models,
        "log_datasets": log_datasets,
        "extra_tags": extra_tags,
        "registered_model_name": registered_model_name,
    }
    settings = AutologSettings(
        log_traces, exclusive, silent, not disable_for_unsupported_versions, training, read_named()
    )
    for name in (one for one in _INTEGRATION_NAMES if one not in excluded):
        apply_settings(name, find_library(name), None if disable else settings)
    for name, hook in catalog.iterate_external_hooks(loaded_only=disable, silent=silent):
        if name in excluded:
            continue
        turn_on(hook, None if disable else settings)
    _workers.autolog(disable or not workers, silent, disable_for_unsupported_versions)


def autolog_at_start() -> None:
    """Turn on every integration for a session in which nobody has called :func:`autolog`.

    Trainings leave the runs alone that the user starts, until ``autolog`` is called.
    """
    from ..hooks.autolog_settings import AutologSettings
    from ..hooks.deferred_settings import apply_settings
    from ._libraries import find_library

    trainings = [name for name in _INTEGRATION_NAMES if find_library(name).trains]
    autolog(silent=True, exclude_flavors=trainings)
    settings = AutologSettings(exclusive=True, silent=True, named=frozenset({"exclusive", "silent"}))
    for name in trainings:
        apply_settings(name, find_library(name), settings)


class Instrumentor:
    """Entry point for ``opentelemetry-instrument python app.py``."""

    def instrument(self, **_: object) -> None:
        """Turn on every integration."""
        autolog()

    def uninstrument(self, **_: object) -> None:
        """Turn off every integration."""
        autolog(disable=True)


_ALIASES: Final = {"gemini": "google_genai"}  # the name that MLflow's users know


def __getattr__(name: str) -> ModuleType:
    name = _ALIASES.get(name, name)
    if name == "workers":
        return importlib.import_module(f"{__name__}.{name}")
    if name in _INTEGRATION_NAMES:
        from ..hooks.deferred_settings import apply_deferred

        module = importlib.import_module(f"{__name__}.{name}")
        apply_deferred(name)  # so that it shows what is asked of it
        return module
    if not name.startswith("_") and name in catalog.list_external_integrations():
        return catalog.load_integration(name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *catalog.list_external_integrations()})
