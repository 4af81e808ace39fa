"""A fastai learner as an MLflow pyfunc model. MLflow stores this file with the model, which then needs no mlspan."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np


class Learner(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow's
    """A pyfunc model that predicts an array of floats for each row.

    The input is a data frame, or a list of items of the kind that the learner was trained on.
    """

    def load_context(self, context: Any) -> None:
        from fastai.learner import load_learner

        self.learner = load_learner(context.artifacts["learner"])

    def predict(self, _: object, rows: Any, params: object = None) -> object:  # noqa: ARG002  # MLflow's signature
        data = self.learner.dls.test_dl(rows if hasattr(rows, "columns") else list(rows))
        with self.learner.no_bar(), self.learner.no_logging():
            predicted, _labels = self.learner.get_preds(dl=data)
        return np.asarray(predicted)


mlflow.models.set_model(Learner())
