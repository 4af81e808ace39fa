"""Integrations, one module for each framework.

``integrations.openai.autolog()`` turns one on, ``integrations.autolog()`` turns all of them on.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from ._training.named_arguments import noting_names, read_named

if TYPE_CHECKING:
    from . import (
        ag2,
        autogen,
        fastai,
        gluon,
        keras,
        langchain,
        langgraph,
        lightgbm,
        lightning,
        llama_index,
        openai,
        paddle,
        pyfunc,
        sklearn,
        spark,
        statsmodels,
        tensorflow,
        workers,
        xgboost,
    )

__all__ = [
    "Instrumentor",
    "ag2",
    "autogen",
    "autolog",
    "fastai",
    "gluon",
    "keras",
    "langchain",
    "langgraph",
    "lightgbm",
    "lightning",
    "llama_index",
    "openai",
    "paddle",
    "pyfunc",
    "sklearn",
    "spark",
    "statsmodels",
    "tensorflow",
    "workers",
    "xgboost",
]

_NAMES: Final = (
    "ag2",
    "autogen",
    "fastai",
    "gluon",
    "keras",
    "langchain",
    "langgraph",
    "lightgbm",
    "lightning",
    "llama_index",
    "openai",
    "paddle",
    "pyfunc",
    "sklearn",
    "spark",
    "statsmodels",
    "tensorflow",
    "xgboost",
)


@noting_names
def autolog(
    log_input_examples: bool = False,
    log_model_signatures: bool = True,
    log_models: bool = True,
    disable: bool = False,
    exclusive: bool = False,
    disable_for_unsupported_versions: bool = True,
    silent: bool = False,
    log_datasets: bool = True,
    log_traces: bool = True,
    extra_tags: Mapping[str, str] | None = None,
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
        disable: take every patch back, MLflow's too.
        exclusive: log and record nothing while the caller has an MLflow run active.
        disable_for_unsupported_versions: leave alone the versions of libraries that the tests have not seen.
        silent: write no log line about it, and have MLflow write none.
        log_datasets: log what a model was trained with as the run's inputs.
        log_traces: record spans.
        extra_tags: tags of the runs that are started for trainings.
        registered_model_name: register each trained model under this name.
        workers: have what other processes do for the caller (Spark, Ray, Dask, joblib, multiprocessing, Celery) join
            the caller's trace and run.
    """
    from ..hooks.hook import Settings
    from . import workers as _workers

    training = {
        "log_input_examples": log_input_examples,
        "log_model_signatures": log_model_signatures,
        "log_models": log_models,
        "log_datasets": log_datasets,
        "extra_tags": extra_tags,
        "registered_model_name": registered_model_name,
    }
    for name in _NAMES:
        hook = importlib.import_module(f"{__name__}.{name}").HOOK
        options = {option: value for option, value in training.items() if option in hook.options}
        settings = Settings(log_traces, exclusive, silent, not disable_for_unsupported_versions, options, read_named())
        hook.apply(None if disable else settings)
    _workers.autolog(disable or not workers, silent, disable_for_unsupported_versions)


class Instrumentor:
    """Entry point for ``opentelemetry-instrument python app.py``."""

    def instrument(self, **_: Any) -> None:
        """Turn on every integration."""
        autolog()

    def uninstrument(self, **_: Any) -> None:
        """Turn off every integration."""
        autolog(disable=True)


def __getattr__(name: str) -> ModuleType:
    if name in _NAMES or name == "workers":
        return importlib.import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
