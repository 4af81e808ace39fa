"""TensorFlow: ``tf.keras``. If that is Keras 3 and the hook of Keras is on too, only the hook of Keras logs."""

from __future__ import annotations

from collections.abc import Iterator

from ._training import keras_common
from ._training.hook import TrainingHook
from ._training.library import CHECKPOINT_OPTIONS, PatchPoint, TrainingLibrary

__all__ = ["HOOK", "autolog"]


def _find_training_functions() -> Iterator[PatchPoint]:
    import tensorflow as tf

    yield tf.keras.Model, "fit"


def _find_prediction_methods() -> Iterator[PatchPoint]:
    import tensorflow as tf

    yield tf.keras.Model, "predict"


HOOK = TrainingHook(
    "tensorflow",
    "tensorflow>=2.16,<3",
    ("tensorflow",),
    TrainingLibrary(
        flavor="tensorflow",
        find_training_functions=_find_training_functions,
        read_arguments=keras_common.read_keras_training,
        find_prediction_methods=_find_prediction_methods,
        epoch_methods={keras_common.EPOCH_METHOD: keras_common.read_keras_epoch},
        adjust_arguments=keras_common.copy_callbacks,
        required_modules=("keras",),
    ),
    keras_common.KERAS_OPTIONS | CHECKPOINT_OPTIONS | {"saved_model_kwargs", "keras_model_kwargs"},
)
autolog = HOOK.autolog
