"""Keras 3, on any backend."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ._training import keras_common
from ._training.hook import FitHook
from ._training.library import Library, Seam
from ._training.mlflow_logging import log_with

__all__ = ["HOOK", "autolog"]


def _seams() -> Iterator[Seam]:
    import keras

    yield keras.Model, "fit"


def _predicts() -> Iterator[Seam]:
    import keras

    yield keras.Model, "predict"


def _save_model(model: Any, path: str, **more: Any) -> None:
    """Save the model by MLflow's ``save_model``, in a folder made here.

    MLflow writes the input example into the folder before it creates the folder.
    """
    import mlflow.keras

    Path(path).mkdir(exist_ok=True)
    mlflow.keras.save_model(model, path, **{**more, "signature": more.get("signature") or None})


def _log_model(call: Mapping[str, Any], _: Any, options: Mapping[str, Any]) -> str | None:
    import mlflow.models

    model, data = call["self"], call.get("x", ())
    rows = data[:5] if hasattr(data, "shape") else None
    flavor_options = {name: options[name] for name in ("save_exported_model", "save_model_kwargs") if name in options}
    flavor = SimpleNamespace(__name__="mlflow.keras", save_model=_save_model)
    log = functools.partial(mlflow.models.Model.log, artifact_path=None, flavor=flavor)
    return log_with(
        lambda model, **more: log(model=model, **more),
        model,
        rows,
        lambda x: model.predict(x, verbose=0),
        options,
        **flavor_options,
    )


HOOK = FitHook(
    "keras",
    "keras>=3.4,<4",
    ("keras",),
    Library(
        flavor="keras",
        seams=_seams,
        read=keras_common.read,
        predicts=_predicts,
        epochs={keras_common.EPOCHS: keras_common.epoch},
        log_model=_log_model,
        adds=frozenset({"log_input_examples"}),  # MLflow's flavor accepts the option and ignores it
        tidy=keras_common.tidy,
    ),
    keras_common.OPTIONS | {"save_exported_model", "save_model_kwargs"},
)
autolog = HOOK.autolog
