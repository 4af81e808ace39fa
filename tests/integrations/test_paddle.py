"""PaddlePaddle, trained for real."""

from __future__ import annotations

from typing import Any

import pytest

paddle = pytest.importorskip("paddle", reason="PaddlePaddle is in the nox session paddle")

import numpy as np
from classic import Contract

X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]], dtype="float32")
Y = np.array([[0], [1], [0], [1], [0], [1]], dtype="float32")


class Network(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.layer = paddle.nn.Linear(2, 1)

    def forward(self, x: Any) -> Any:
        return self.layer(x)


class TestPaddle(Contract):
    library, tag, span = "paddle", "paddle", "fit Network"
    rows, features, epochs = 6, 2, 2
    fails = ValueError

    def made(self) -> Any:
        made = paddle.Model(Network(), inputs=[paddle.static.InputSpec([None, 2], "float32", "x")])
        made.prepare(paddle.optimizer.SGD(0.1, parameters=made.parameters()), paddle.nn.MSELoss())
        return made

    def train(self) -> Any:
        data = paddle.io.TensorDataset([paddle.to_tensor(X), paddle.to_tensor(Y)])
        return self.made().fit(data, batch_size=3, epochs=2, verbose=0)

    def fail(self) -> None:
        model = self.made()

        def broken(*_: Any) -> Any:
            raise ValueError("the user's")

        model.network.forward = broken
        model.fit(paddle.io.TensorDataset([paddle.to_tensor(X), paddle.to_tensor(Y)]), verbose=0)

    def patch_point(self) -> tuple[Any, str]:
        return paddle.Model, "fit"

    def check_model(self, loaded: Any) -> None:
        assert np.asarray(loaded.predict(X)).shape == (6, 1)
