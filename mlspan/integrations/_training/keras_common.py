"""Code that the hooks of Keras and TensorFlow share: from TensorFlow 2.16 on, ``tf.keras`` is Keras 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._shape import get_nested
from .library import EpochResult
from .record import TrainingRecord

EPOCH_METHOD = "keras.callbacks:CallbackList.on_epoch_end"
KERAS_OPTIONS = frozenset({"log_every_epoch", "log_every_n_steps"})


def read_keras_training(fit: TrainingRecord, call: Mapping[str, object]) -> None:
    """Fill the record from the bound arguments of ``Model.fit``."""
    model, data = call["self"], call.get("x")
    fit.set_size(data)
    if fit.rows is not None and fit.features is None:
        fit.rows = None  # the length of a tf.data.Dataset is its number of batches
    optimizer = getattr(model, "optimizer", None)
    arguments = {name: call.get(name) for name in ("epochs", "batch_size", "validation_split") if name in call}
    rate = get_nested(optimizer, "learning_rate", object)
    fit.set_params(
        {
            "epochs": 1,
            **arguments,
            "optimizer": type(optimizer).__name__,
            "loss": getattr(model, "loss", None),
            **({"learning_rate": float(rate)} if hasattr(rate, "__float__") else {}),
        }
    )


def read_keras_epoch(args: tuple[Any, ...]) -> EpochResult:
    """Read an epoch from the arguments of ``on_epoch_end(self, epoch, logs)``."""
    return args[1], args[2] if len(args) > 2 and args[2] else {}


def copy_callbacks(kwargs: dict[str, object]) -> None:
    """Replace ``callbacks`` by a copy.

    MLflow adds a callback of its own to the caller's list, and then refuses the next training that gets that list.
    """
    if "callbacks" in kwargs and isinstance(kwargs["callbacks"], (list, tuple, type(None))):
        kwargs["callbacks"] = list(kwargs["callbacks"] or ())
