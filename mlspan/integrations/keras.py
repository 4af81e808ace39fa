"""Keras 3, on whichever backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import _keras
from ._fit import FitHook
from ._library import Library, Seam
from ._models import log_with

__all__ = ["HOOK", "autolog"]


def _seams() -> Iterator[Seam]:
    import keras

    yield keras.Model, "fit"


def _log_model(call: Mapping[str, Any], _: Any, asked: Mapping[str, Any]) -> str | None:
    import mlflow.keras

    model, data = call["self"], call.get("x", ())
    rows = data[:5] if hasattr(data, "shape") else None
    options = {name: asked[name] for name in ("save_exported_model", "save_model_kwargs") if name in asked}
    return log_with(mlflow.keras.log_model, model, rows, lambda x: model.predict(x, verbose=0), asked, **options)


HOOK = FitHook(
    "keras",
    "keras>=3.4,<4",
    ("keras",),
    Library(
        flavor="keras",
        seams=_seams,
        read=_keras.read,
        epochs={_keras.EPOCHS: _keras.epoch},
        log_model=_log_model,
        adds=frozenset({"log_input_examples"}),  # MLflow's flavor takes it, and does nothing with it
        tidy=_keras.tidy,
    ),
    _keras.OPTIONS | {"save_exported_model", "save_model_kwargs"},
)
autolog = HOOK.autolog
