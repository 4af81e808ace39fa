"""A Gluon network as an MLflow pyfunc model. MLflow stores this file with the model, which then needs no mlspan."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np


class Network(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow's
    """A pyfunc model that predicts an array from an array or a data frame of numbers."""

    def load_context(self, context: Any) -> None:
        from mxnet import gluon

        artifacts = context.artifacts
        self.network = gluon.SymbolBlock.imports(artifacts["symbol"], ["data"], artifacts["params"])

    def predict(self, _: object, rows: object, params: object = None) -> object:  # noqa: ARG002  # MLflow's signature
        import mxnet

        return self.network(mxnet.nd.array(np.asarray(rows))).asnumpy()


mlflow.models.set_model(Network())
