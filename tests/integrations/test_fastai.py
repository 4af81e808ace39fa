"""fastai, trained for real; MLflow has no flavor for it, so all that is logged is ours."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("fastai", reason="fastai is in the nox session fastai")

import pandas as pd
from classic import Contract
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.learner import Learner
from fastai.tabular.all import RegressionBlock, TabularDataLoaders, tabular_learner

from mlspan.testing import Spans

ROWS = pd.DataFrame({"a": [0.0, 1.0, 0.2, 0.9, 0.1, 0.8] * 2, "b": [1.0, 0.0, 0.9, 0.3, 0.8, 0.1] * 2})
ROWS["y"] = ROWS["a"]


def learner() -> Learner:
    data = TabularDataLoaders.from_df(
        ROWS, y_names="y", cont_names=["a", "b"], y_block=RegressionBlock(), bs=4, valid_idx=[0, 1, 2, 3], num_workers=0
    )
    return tabular_learner(data, layers=[2])


class TestFastai(Contract):
    library, tag, span = "fastai", "fastai", "fit TabularModel"
    rows, features, epochs = 8, 2, 2
    fails = ValueError

    def train(self) -> Any:
        made = learner()
        with made.no_bar(), made.no_logging():
            made.fit_one_cycle(2, 0.1)

    def fail(self) -> None:
        def broken(*_: Any) -> Any:
            raise ValueError("the user's")

        made = learner()
        made.loss_func = broken
        with made.no_bar(), made.no_logging():
            made.fit(1)

    def patch_point(self) -> tuple[Any, str]:
        return Learner, "fit_one_cycle"

    def check_model(self, loaded: Any) -> None:
        assert loaded.predict(ROWS[["a", "b"]]).shape == (12, 1)

    def test_early_stopping_and_fine_tuning(self, autolog: Any, spans: Spans) -> None:
        """Two phases are one training; where it stopped early, the run says when and at what."""
        autolog(log_models=False)
        made = learner()
        with made.no_bar(), made.no_logging():
            made.fit(9, cbs=EarlyStoppingCallback(min_delta=100))
        (run,) = self.runs()
        assert (run.data.params["early_stopping_patience"], run.data.metrics["stopped_epoch"]) == ("1", 1.0)
        made = learner()
        with made.no_bar(), made.no_logging():
            made.fine_tune(1, freeze_epochs=1)
        assert [span.attributes["mlspan.fit.epochs"] for span in spans.named(self.span)] == [2, 2]
