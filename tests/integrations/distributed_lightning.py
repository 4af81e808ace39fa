"""Lightning on two processes: ``python distributed_lightning.py NAME...`` runs the trainings of these names."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as lightning
import torch
from distributed_driver import drive, start


class Line(lightning.LightningModule):  # type: ignore[misc]  # Any, where Lightning is not installed
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: Any) -> Any:
        return self.layer(x)

    def training_step(self, batch: Any, _: int) -> Any:
        loss = ((self(batch[0]) - batch[1]) ** 2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def _fit(strategy: str) -> object:
    data = torch.utils.data.TensorDataset(torch.rand(8, 2), torch.rand(8, 1))
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(Line(), torch.utils.data.DataLoader(data, batch_size=2))
    return int(trainer.world_size)


def ddp() -> object:
    """The second process runs this file again."""
    return _fit("ddp")


def ddp_spawn() -> object:
    """Both processes are started by multiprocessing."""
    return _fit("ddp_spawn")


if __name__ == "__main__":
    start()
    drive([ddp, ddp_spawn])
