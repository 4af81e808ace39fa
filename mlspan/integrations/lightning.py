"""PyTorch Lightning, under its two module names ``lightning`` and ``pytorch_lightning``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ._training.hook import FitHook
from ._training.library import CHECKPOINTS, Epoch, Library, Seam
from ._training.mlflow_logging import first_rows, log_with
from ._training.record import Fit

__all__ = ["HOOK", "autolog"]

_MODULES = ("lightning", "pytorch_lightning")


def _seams() -> Iterator[Seam]:
    for module in _MODULES:
        if module in sys.modules:
            yield sys.modules[module].Trainer, "fit"


def _read(fit: Fit, call: Mapping[str, Any]) -> None:
    trainer, module = call["self"], call.get("model")
    fit.name = type(module).__name__
    data = call.get("train_dataloaders")
    fit.set_size(getattr(data, "dataset", data))
    if (rows := _rows(data, 1)) is not None and rows[0].ndim > 1:
        fit.features = rows[0].shape[1]
    limits = {name: getattr(trainer, name, None) for name in ("max_epochs", "max_steps", "accumulate_grad_batches")}
    fit.set_params({**limits, **(getattr(module, "hparams", None) or {})})


def _rows(data: Any, count: int) -> tuple[Any, Any] | None:
    """Return inputs and labels of the first *count* rows, as arrays; None if rows cannot be indexed."""
    return first_rows(getattr(data, "dataset", None), count)


def _epoch(args: tuple[Any, ...]) -> Epoch:
    """Read an epoch from the arguments of ``_FitLoop.on_advance_end(self)``.

    Lightning calls it after each epoch of training and its validation.
    """
    return None, dict(args[0].trainer.callback_metrics)


def _log_model(call: Mapping[str, Any], _: Any, options: Mapping[str, Any]) -> str | None:
    import mlflow.pytorch
    import torch

    module = call["model"]
    rows = _rows(call.get("train_dataloaders"), 5)

    def predict_batch(rows: Any) -> Any:
        module.eval()
        with torch.no_grad():
            return module(torch.from_numpy(rows).to(module.device)).cpu().numpy()

    return log_with(mlflow.pytorch.log_model, module, None if rows is None else rows[0], predict_batch, options)


HOOK = FitHook(
    "lightning",
    "lightning>=2.4,<3",
    _MODULES,
    Library(
        flavor="pytorch",
        seams=_seams,
        read=_read,
        epochs={
            f"{module}.loops.fit_loop:_FitLoop.on_advance_end": _epoch
            for module in ("lightning.pytorch", "pytorch_lightning")
        },
        log_model=_log_model,
        adds=frozenset({"log_input_examples"}),
        data=lambda call: _rows(call.get("train_dataloaders"), 1000),
    ),
    CHECKPOINTS | {"log_every_n_epoch", "log_every_n_step"},
)
autolog = HOOK.autolog
