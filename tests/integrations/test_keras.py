"""Keras and TensorFlow, trained for real."""

from __future__ import annotations

from typing import Any

import pytest

tf = pytest.importorskip("tensorflow", reason="TensorFlow is in the nox session tensorflow")

import keras
import numpy as np
from classic import Contract

from mlspan import integrations
from mlspan.testing import Spans

X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]], dtype="float32")
Y = np.array([0, 1, 0, 1, 0, 1], dtype="float32")


def model() -> Any:
    made = keras.Sequential([keras.Input([2]), keras.layers.Dense(1, activation="sigmoid")])
    made.compile(optimizer=keras.optimizers.SGD(0.5), loss="binary_crossentropy")
    return made


class TestKeras(Contract):
    library, tag, span = "keras", "keras", "fit Sequential"
    rows, features, epochs = 6, 2, 2
    fails = ValueError

    def train(self) -> Any:
        return model().fit(X, Y, epochs=2, batch_size=3, verbose=0)

    def fail(self) -> None:
        model().fit(X, Y[:3], epochs=2, verbose=0)

    def patch_point(self) -> tuple[Any, str]:
        return keras.Model, "fit"

    def check_model(self, loaded: Any) -> None:
        assert np.asarray(loaded.predict(X)).shape == (6, 1)

    def test_callbacks_stay_the_callers(self, autolog: Any, spans: Spans) -> None:
        """A list of callbacks serves two trainings: MLflow would add its own, and refuse the second."""
        given: list[Any] = []
        autolog(log_models=False)
        for _ in range(2):
            model().fit(X, Y, epochs=1, verbose=0, callbacks=given)
        assert given == []
        assert [run.info.status for run in self.runs()] == ["FINISHED"] * 2


class TestTensorflow(TestKeras):
    library, tag = "tensorflow", "tensorflow"

    def test_one_training_is_logged_once(self, autolog: Any, spans: Spans) -> None:
        """With everything on, ``tf.keras``, which is Keras 3, is Keras's; whom one asks for by name comes first."""
        integrations.autolog(log_models=False)
        self.train()
        assert (self.run().data.tags["mlflow.autologging"], len(spans.named(self.span))) == ("keras", 1)
        autolog(log_models=False)
        self.train()
        assert [run.data.tags["mlflow.autologging"] for run in self.runs()] == ["keras", "tensorflow"]
        integrations.autolog(disable=True)
