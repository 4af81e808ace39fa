"""TensorFlow: ``tf.keras``. If that is Keras 3 and the hook of Keras is on too, only the hook of Keras logs."""

from __future__ import annotations

from collections.abc import Iterator

from ._training import keras_common
from ._training.hook import FitHook
from ._training.library import CHECKPOINTS, Library, Seam

__all__ = ["HOOK", "autolog"]


def _seams() -> Iterator[Seam]:
    import tensorflow as tf

    yield tf.keras.Model, "fit"


def _predicts() -> Iterator[Seam]:
    import tensorflow as tf

    yield tf.keras.Model, "predict"


HOOK = FitHook(
    "tensorflow",
    "tensorflow>=2.16,<3",
    ("tensorflow",),
    Library(
        flavor="tensorflow",
        seams=_seams,
        read=keras_common.read,
        predicts=_predicts,
        epochs={keras_common.EPOCHS: keras_common.epoch},
        tidy=keras_common.tidy,
        needs=("keras",),
    ),
    keras_common.OPTIONS | CHECKPOINTS | {"saved_model_kwargs", "keras_model_kwargs"},
)
autolog = HOOK.autolog
