"""PaddlePaddle, with what MLflow's own autologging lacks for it: an example, a signature and the data.

Needs ``pip install '.[mlflow]' paddlepaddle setuptools`` in a checkout of mlspan; no key. Then ``mlspan show`` prints
the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import paddle

from mlspan import integrations

integrations.paddle.autolog(log_input_examples=True)

if __name__ == "__main__":
    X = paddle.rand([32, 4])
    rows = paddle.io.TensorDataset([X, X.sum(axis=1, keepdim=True)])
    model = paddle.Model(paddle.nn.Linear(4, 1), inputs=[paddle.static.InputSpec([None, 4], "float32", "x")])
    model.prepare(paddle.optimizer.SGD(0.1, parameters=model.parameters()), paddle.nn.MSELoss())
    model.fit(rows, batch_size=8, epochs=2, verbose=0)
    print(model.evaluate(rows, verbose=0))
