"""PyTorch Lightning: the metrics of each epoch, the module with an example and a signature, and a span.

Needs ``pip install '.[mlflow]' lightning`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the trace,
and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch

from mlspan import integrations

integrations.lightning.autolog(log_input_examples=True)


class Regression(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x: Any) -> Any:
        return self.layer(x)

    def training_step(self, batch: Any, _: int) -> Any:
        loss = torch.nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    X = torch.rand(32, 4)
    rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, X.sum(1, keepdim=True)), batch_size=8)
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Regression(), rows)
    print(trainer.callback_metrics)
