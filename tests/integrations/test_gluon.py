"""Gluon, trained for real; MLflow has no flavor for it, so all that is logged is ours."""

from __future__ import annotations

from typing import Any

import pytest

mxnet = pytest.importorskip("mxnet", reason="MXNet is in the nox session gluon")

import numpy as np
from classic import Contract
from mxnet import autograd, gluon
from mxnet.gluon.contrib.estimator import Estimator

from mlspan import integrations

X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]], dtype="float32")
Y = np.array([0, 1, 0, 1, 0, 1], dtype="float32")


def network() -> Any:
    made = gluon.nn.Dense(2, in_units=2)
    made.initialize()
    return made


def rows() -> Any:
    return gluon.data.DataLoader(gluon.data.ArrayDataset(X, Y), batch_size=3)


class TestGluon(Contract):
    library, tag, span = "gluon", "gluon", "fit Dense"
    rows, features, epochs = 6, 2, 2
    fails = ValueError

    def estimator(self) -> Any:
        made = network()
        trainer = gluon.Trainer(made.collect_params(), "sgd", {"learning_rate": 0.1})
        loss = gluon.loss.SoftmaxCrossEntropyLoss()
        return Estimator(made, loss, train_metrics=mxnet.metric.Accuracy(), trainer=trainer)

    def train(self) -> Any:
        self.estimator().fit(rows(), epochs=2)

    def fail(self) -> None:
        self.estimator().fit("no data", epochs=2)

    def patch_point(self) -> tuple[Any, str]:
        return Estimator, "fit"

    def check_model(self, loaded: Any) -> None:
        assert loaded.predict(X).shape == (6, 2)


class TestGluonLoop(TestGluon):
    """A plain loop over ``gluon.Trainer``."""

    def train(self, steps: int = 2) -> Any:
        made, data, loss = network(), rows(), gluon.loss.SoftmaxCrossEntropyLoss()
        trainer = gluon.Trainer(made.collect_params(), "sgd", {"learning_rate": 0.1})
        with integrations.gluon.training(made, trainer, data=data, loss=loss, epochs=steps) as fit:
            for _ in range(steps):
                for x, y in data:
                    with autograd.record():
                        error = loss(made(x), y)
                    error.backward()
                    trainer.step(len(x))
                fit.epoch(loss=error.mean().asscalar())

    def fail(self) -> None:
        made = network()
        with integrations.gluon.training(made, gluon.Trainer(made.collect_params(), "sgd")):
            raise ValueError("the user's")
