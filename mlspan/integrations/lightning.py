"""PyTorch Lightning, under its two module names ``lightning`` and ``pytorch_lightning``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from .._shape import get_nested
from ._training.hook import TrainingHook
from ._training.library import CHECKPOINT_OPTIONS, EpochResult, PatchPoint, TrainingLibrary
from ._training.mlflow_logging import log_model_with_example, read_first_rows
from ._training.record import TrainingRecord

__all__ = ["HOOK", "autolog"]

_MODULES = ("lightning", "pytorch_lightning")


def _find_training_functions() -> Iterator[PatchPoint]:
    for module in _MODULES:
        if module in sys.modules:
            yield sys.modules[module].Trainer, "fit"


def _find_rank(args: tuple[Any, ...]) -> int:
    """Return the rank of this process: of those that train one model, the first one logs and traces it."""
    return get_nested(args[0] if args else None, "global_rank", int) or 0


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    trainer, module = call["self"], call.get("model")
    fit.name = type(module).__name__
    data = call.get("train_dataloaders")
    fit.set_size(getattr(data, "dataset", data))
    if (rows := _read_dataloader_rows(data, 1)) is not None and rows[0].ndim > 1:
        fit.features = rows[0].shape[1]
    limits = {name: getattr(trainer, name, None) for name in ("max_epochs", "max_steps", "accumulate_grad_batches")}
    fit.set_params({**limits, **(getattr(module, "hparams", None) or {})})


def _read_dataloader_rows(data: object, count: int) -> tuple[Any, object] | None:
    """Return inputs and labels of the first *count* rows, as arrays; None if rows cannot be indexed."""
    return read_first_rows(getattr(data, "dataset", None), count)


def _read_epoch_metrics(args: tuple[Any, ...]) -> EpochResult:
    """Read an epoch from the arguments of ``_FitLoop.on_advance_end(self)``.

    Lightning calls it after each epoch of training and its validation.
    """
    return None, dict(args[0].trainer.callback_metrics)


def _log_model(call: Mapping[str, Any], _: object, options: Mapping[str, Any]) -> str | None:
    import mlflow.pytorch
    import torch

    module = call["model"]
    rows = _read_dataloader_rows(call.get("train_dataloaders"), 5)

    def predict_batch(rows: Any) -> object:
        module.eval()
        with torch.no_grad():
            return module(torch.from_numpy(rows).to(module.device)).cpu().numpy()

    return log_model_with_example(
        mlflow.pytorch.log_model, module, None if rows is None else rows[0], predict_batch, options
    )


HOOK = TrainingHook(
    "lightning",
    "lightning>=2.4,<3",
    _MODULES,
    TrainingLibrary(
        flavor="pytorch",
        find_training_functions=_find_training_functions,
        find_rank=_find_rank,
        read_arguments=_read_training,
        epoch_methods={
            f"{module}.loops.fit_loop:_FitLoop.on_advance_end": _read_epoch_metrics
            for module in ("lightning.pytorch", "pytorch_lightning")
        },
        log_model=_log_model,
        added_options=frozenset({"log_input_examples"}),
        read_data=lambda call: _read_dataloader_rows(call.get("train_dataloaders"), 1000),
    ),
    CHECKPOINT_OPTIONS | {"log_every_n_epoch", "log_every_n_step"},
)
autolog = HOOK.autolog
