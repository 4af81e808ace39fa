"""PyTorch Lightning, trained for real under each of its names."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is in the nox session lightning")
lightning = pytest.importorskip("lightning", reason="Lightning is in the nox session lightning")

import numpy as np
from classic import Contract

from mlspan.testing import Spans

X = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]])
Y = torch.tensor([[0.0], [1.0], [0.0], [1.0], [0.0], [1.0]])


def network(base: Any) -> Any:
    class Network(base):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"hidden": 1})
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x: Any) -> Any:
            return self.layer(x)

        def training_step(self, batch: Any, _: Any) -> Any:
            loss = torch.nn.functional.mse_loss(self(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Network


Network = network(lightning.LightningModule)


class TestLightning(Contract):
    library, tag, span = "lightning", "pytorch", "fit Network"
    rows, features, epochs = 6, 2, 2
    fails = ValueError

    def trainer(self, under: Any = lightning) -> Any:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        return under.Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, **quiet)

    def train(self, under: Any = lightning) -> Any:
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=3)
        made = Network if under is lightning else network(under.LightningModule)
        self.trainer(under).fit(made(), data)

    def fail(self) -> None:
        def broken(self: Any, batch: Any, _: Any) -> Any:
            raise ValueError("the user's")

        model = Network()
        model.training_step = broken.__get__(model)
        self.trainer().fit(model, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y)))

    def patch_point(self) -> tuple[Any, str]:
        return lightning.Trainer, "fit"

    def check_model(self, loaded: Any) -> None:
        assert np.asarray(loaded.predict(X.numpy())).shape == (6, 1)

    def test_under_its_older_name(self, autolog: Any, spans: Spans) -> None:
        """``pytorch_lightning``, whose classes are others, is hooked as well: the same run, and the same span."""
        older = pytest.importorskip("pytorch_lightning")
        original = older.Trainer.fit
        autolog(log_models=False)
        self.train()
        self.train(older)
        sizes = [
            (one.attributes["mlspan.fit.rows"], one.attributes["mlspan.fit.epochs"]) for one in spans.named(self.span)
        ]
        assert sizes == [(6, 2)] * 2
        one, other = self.runs()
        assert [span.attributes["mlspan.run.id"] for span in spans.named(self.span)] == [
            one.info.run_id,
            other.info.run_id,
        ]
        assert other.data.tags["mlflow.autologging"] == "pytorch"
        assert (set(one.data.params), set(one.data.metrics)) == (set(other.data.params), set(other.data.metrics))
        autolog(disable=True)
        assert older.Trainer.fit is original
