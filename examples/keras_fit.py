"""Keras: parameters, the metrics of each epoch, the model with its signature, and a span with its epochs.

Needs ``pip install '.[mlflow]' keras tensorflow`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the
trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import keras
import numpy as np

from mlspan import integrations

integrations.keras.autolog()

if __name__ == "__main__":
    X = np.random.default_rng(0).random((32, 4), dtype="float32")
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    history = model.fit(X, X.sum(axis=1), epochs=3, verbose=0)
    print(history.history["loss"])
