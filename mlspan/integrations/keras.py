"""Keras 3, on any backend."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ._training import keras_common
from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.mlflow_logging import log_model_with_example

__all__ = ["HOOK", "autolog"]


def _find_training_functions() -> Iterator[PatchPoint]:
    import keras

    yield keras.Model, "fit"


def _find_prediction_methods() -> Iterator[PatchPoint]:
    import keras

    yield keras.Model, "predict"


def _save_model(model: object, path: str, **more: object) -> None:
    """Save the model by MLflow's ``save_model``, in a folder made here.

    MLflow writes the input example into the folder before it creates the folder.
    """
    import mlflow.keras

    Path(path).mkdir(exist_ok=True)
    mlflow.keras.save_model(model, path, **{**more, "signature": more.get("signature") or None})


def _log_model(call: Mapping[str, Any], _: object, options: Mapping[str, Any]) -> str | None:
    import mlflow.models

    model, data = call["self"], call.get("x", ())
    rows = data[:5] if hasattr(data, "shape") else None
    flavor_options = {name: options[name] for name in ("save_exported_model", "save_model_kwargs") if name in options}
    flavor = SimpleNamespace(__name__="mlflow.keras", save_model=_save_model)
    log = functools.partial(mlflow.models.Model.log, artifact_path=None, flavor=flavor)
    return log_model_with_example(
        lambda model, **more: log(model=model, **more),
        model,
        rows,
        lambda x: model.predict(x, verbose=0),
        options,
        **flavor_options,
    )


HOOK = TrainingHook(
    "keras",
    "keras>=3.4,<4",
    ("keras",),
    TrainingLibrary(
        flavor="keras",
        find_training_functions=_find_training_functions,
        read_arguments=keras_common.read_keras_training,
        find_prediction_methods=_find_prediction_methods,
        epoch_methods={keras_common.EPOCH_METHOD: keras_common.read_keras_epoch},
        log_model=_log_model,
        added_options=frozenset({"log_input_examples"}),  # MLflow's flavor accepts the option and ignores it
        adjust_arguments=keras_common.copy_callbacks,
    ),
    keras_common.KERAS_OPTIONS | {"save_exported_model", "save_model_kwargs"},
)
autolog = HOOK.autolog
