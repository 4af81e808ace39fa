"""TensorFlow's Keras, with an option of TensorFlow's flavor: no checkpoints.

Needs ``pip install '.[mlflow]' tensorflow`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the trace,
and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mlspan import integrations

integrations.tensorflow.autolog(checkpoint=False)

if __name__ == "__main__":
    X = np.random.default_rng(0).random((32, 4), dtype="float32")
    model = tf.keras.Sequential([tf.keras.Input([4]), tf.keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    history = model.fit(X, X.sum(axis=1), epochs=3, verbose=0)
    print(history.history["loss"])
