"""Gluon, which MLflow no longer logs: parameters, the metrics of each epoch, a pyfunc model, and a span.

Needs ``pip install '.[mlflow]' mxnet 'numpy<1.24' 'pandas<2' 'scipy<1.12'`` in a checkout of mlspan; no key. Then
``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import mxnet
from mxnet import gluon
from mxnet.gluon.contrib.estimator import Estimator

from mlspan import integrations

integrations.gluon.autolog(log_input_examples=True)

if __name__ == "__main__":
    X = mxnet.nd.random.uniform(shape=(32, 4))
    rows = gluon.data.DataLoader(gluon.data.ArrayDataset(X, X.sum(axis=1)), batch_size=8)
    network = gluon.nn.Dense(1, in_units=4)
    network.initialize()
    trainer = gluon.Trainer(network.collect_params(), "sgd", {"learning_rate": 0.1})
    estimator = Estimator(network, gluon.loss.L2Loss(), train_metrics=mxnet.metric.MSE(), trainer=trainer)
    estimator.fit(rows, epochs=2)
    print([metric.get() for metric in estimator.train_metrics])
