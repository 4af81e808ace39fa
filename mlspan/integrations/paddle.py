"""PaddlePaddle's high-level API: ``paddle.Model.fit``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._shape import get_nested
from ._training.hook import TrainingHook
from ._training.library import EpochResult, PatchPoint, TrainingLibrary
from ._training.mlflow_logging import log_model_with_example, read_first_rows
from ._training.record import TrainingRecord

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_optimizer": "the optimizer",
    "_learning_rate": "the learning rate",
}

__all__ = ["HOOK", "autolog"]


def _find_training_functions() -> Iterator[PatchPoint]:
    import paddle

    yield paddle.Model, "fit"


def _read_train_data_rows(call: Mapping[str, Any], count: int) -> tuple[Any, Any] | None:
    """Return inputs and labels of the first *count* rows, as arrays; None if rows cannot be indexed."""
    data = call.get("train_data")
    return read_first_rows(getattr(data, "dataset", data), count)


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    model, data = call["self"], call.get("train_data")
    fit.name = type(model.network).__name__
    fit.set_size(getattr(data, "dataset", data))
    if (rows := _read_train_data_rows(call, 1)) is not None and rows[0].ndim == 2:
        fit.features = rows[0].shape[1]
    arguments = {name: call.get(name, 1) for name in ("epochs", "batch_size")}
    optimizer = getattr(model, "_optimizer", None)
    fit.set_params(
        {
            **arguments,
            "optimizer": type(optimizer).__name__,
            "learning_rate": get_nested(optimizer, "_learning_rate", float),
        }
    )


def _read_epoch_logs(args: tuple[Any, ...]) -> EpochResult:
    """Read an epoch from the arguments of ``on_epoch_end(self, epoch, logs)``. A loss is a list of one value."""
    logs = args[2] if len(args) > 2 and args[2] else {}
    return args[1], {name: value[0] if isinstance(value, list) and value else value for name, value in logs.items()}


def _log_model(call: Mapping[str, Any], _: object, options: Mapping[str, object]) -> str | None:
    import mlflow.paddle
    import paddle

    model, rows = call["self"], _read_train_data_rows(call, 5)

    def predict_inputs(inputs: object) -> object:
        model.network.eval()
        return model.network(paddle.to_tensor(inputs)).numpy()

    return log_model_with_example(
        mlflow.paddle.log_model, model, None if rows is None else rows[0], predict_inputs, options
    )


HOOK = TrainingHook(
    "paddle",
    "paddlepaddle>=3,<4",
    ("paddle",),
    TrainingLibrary(
        flavor="paddle",
        find_training_functions=_find_training_functions,
        read_arguments=_read_training,
        epoch_methods={"paddle.hapi.callbacks:CallbackList.on_epoch_end": _read_epoch_logs},
        log_model=_log_model,
        added_options=frozenset({"log_input_examples", "log_model_signatures"}),
        read_data=lambda call: _read_train_data_rows(call, 1000),
    ),
    frozenset({"log_every_n_epoch"}),
)
autolog = HOOK.autolog
