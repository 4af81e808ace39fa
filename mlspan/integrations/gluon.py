"""Gluon (MXNet). MLflow has dropped its flavor for it, so runs, epochs and a pyfunc model are logged here."""

from __future__ import annotations

import functools
import importlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from .._guard import guard
from .._shape import get_nested
from ..hooks.patching import Patch, Undo, apply_patches, replace_function
from ._training.current import current_training
from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.mlflow_logging import log_model_with_example, read_first_rows
from ._training.record import TrainingRecord
from ._training.training import ActiveTraining

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_dataset": "the size of the data",
    "_batch_sampler": "the size of a batch",
    "_batch_size": "the size of a batch",
    "_optimizer": "the optimizer",
}

__all__ = ["HOOK", "autolog", "training"]

_ESTIMATOR_MODULE: Final = "mxnet.gluon.contrib.estimator.estimator"
_PYFUNC_FILE: Final = Path(__file__).with_name("_training") / "pyfunc_gluon.py"


def _find_training_functions() -> Iterator[PatchPoint]:
    from mxnet.gluon.contrib.estimator.estimator import Estimator

    yield Estimator, "fit"


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    estimator, data = call["self"], call.get("train_data")
    fit.name = type(estimator.net).__name__
    dataset = getattr(data, "_dataset", None)
    fit.set_size(dataset)
    if (rows := _read_dataset_rows(call, 1)) is not None and rows[0].ndim == 2:
        fit.features = rows[0].shape[1]
    trainer = estimator.trainer
    fit.set_params(
        {
            **{name: value for name, value in call.items() if isinstance(value, (str, int, float))},
            "optimizer": type(get_nested(trainer, "_optimizer", object)).__name__,
            "learning_rate": get_nested(trainer, "learning_rate", float),
            "loss": type(estimator.loss).__name__,
            "batch_size": get_nested(data, "_batch_sampler._batch_size", int),
        }
    )


def _read_dataset_rows(call: Mapping[str, Any], count: int) -> tuple[Any, object] | None:
    """Return inputs and labels of the first *count* rows, as arrays; None if rows cannot be indexed."""
    return read_first_rows(getattr(call.get("train_data"), "_dataset", None), count)


def _patch_estimator() -> Undo:
    make = functools.partial(replace_function, make=_add_epoch_handler)
    return apply_patches([Patch(f"{_ESTIMATOR_MODULE}:Estimator.fit", make, "the metrics of each epoch")])


def _add_epoch_handler(fit: Any) -> object:
    from mxnet.gluon.contrib.estimator import EpochEnd

    class Epochs(EpochEnd):  # type: ignore[misc]  # MXNet's
        def epoch_end(self, estimator: Any, *_: object, **__: object) -> None:
            if (fitting := current_training()) is not None:
                metrics = [*estimator.train_metrics, *estimator.val_metrics]
                named = [metric.get() for metric in metrics]
                fitting.end_epoch(None, {name: value for name, value in named if value == value})  # noqa: PLR0124  # no NaN

    @functools.wraps(fit)
    def fit_with_handler(self: Any, *args: Any, **kwargs: Any) -> object:
        if current_training() is not None and len(args) < 4:  # event_handlers is the fourth
            given = kwargs.get("event_handlers") or ()
            kwargs["event_handlers"] = [*(given if isinstance(given, (list, tuple)) else [given]), Epochs()]
        return fit(self, *args, **kwargs)

    return fit_with_handler


def _log_model(call: Mapping[str, Any], _: object, options: Mapping[str, object]) -> str | None:
    return log_network(call["self"].net, _read_dataset_rows(call, 5), options)


def log_network(network: Any, rows: tuple[object, object] | None, options: Mapping[str, object]) -> str | None:
    """Log a HybridBlock as its symbol and its parameters, the format that Gluon itself exports.

    Args:
        network: the HybridBlock.
        rows: inputs and labels of a few rows, for the input example and the signature; None logs neither.
        options: the options of the hook.

    Returns:
        The id of the logged model, or None if MLflow gave it none.
    """
    import mlflow.pyfunc
    import mxnet

    def predict_array(inputs: object) -> object:
        return network(mxnet.nd.array(inputs)).asnumpy()

    with tempfile.TemporaryDirectory() as folder:
        symbol, params = str(Path(folder, "network-symbol.json")), str(Path(folder, "network.params"))
        graph = network(mxnet.sym.var("data"))
        graph.save(symbol)
        auxiliary = set(graph.list_auxiliary_states())
        named = network.collect_params().items()
        mxnet.nd.save(
            params, {f"{'aux' if name in auxiliary else 'arg'}:{name}": value.data() for name, value in named}
        )
        log = functools.partial(
            mlflow.pyfunc.log_model,
            pip_requirements=[f"mxnet=={mxnet.__version__}", "numpy<1.24"],
            artifacts={"symbol": symbol, "params": params},
        )
        inputs = None if rows is None else rows[0]
        return log_model_with_example(
            lambda model, **more: log(python_model=str(model), **more), _PYFUNC_FILE, inputs, predict_array, options
        )


HOOK = TrainingHook(
    "gluon",
    "mxnet>=1.9,<2",
    (_ESTIMATOR_MODULE,),
    TrainingLibrary(
        flavor=None,
        find_training_functions=_find_training_functions,
        read_arguments=_read_training,
        patch_epochs=_patch_estimator,
        log_model=_log_model,
        read_data=lambda call: _read_dataset_rows(call, 1000),
    ),
)
autolog = HOOK.autolog


class Loop:
    """A training that is written as a plain loop; :func:`training` yields it."""

    def __init__(self, fitting: ActiveTraining | None) -> None:
        self._training = fitting

    def epoch(self, **metrics: float) -> None:
        """Record the end of an epoch and its metrics."""
        if self._training is not None:
            with guard("noting an epoch"):
                self._training.end_epoch(None, metrics)


@contextmanager
def training(
    network: object, trainer: object, *, data: object = None, loss: object = None, **params: object
) -> Iterator[Loop]:
    """Log and trace a plain loop over ``gluon.Trainer``: ``with training(network, trainer) as fit:``.

    A plain loop calls no function that could be patched. The block is recorded like a call of ``Estimator.fit``, with
    the settings of :func:`autolog`; nothing is recorded if that is off.

    Args:
        network: the network to train; it is logged as the model if it is a HybridBlock.
        trainer: the ``gluon.Trainer``.
        data: the DataLoader of the loop. It gives the size, the input example, the signature and the run's inputs.
        loss: the loss function.
        params: further parameters of the run.

    Yields:
        A :class:`Loop`, whose ``epoch`` records the end of an epoch.
    """
    importlib.import_module(_ESTIMATOR_MODULE)  # a hook that waits for this import makes its patches now
    call = {"self": SimpleNamespace(net=network, trainer=trainer, loss=loss), "train_data": data, **params}
    with HOOK.trace_training(call) as fitting:
        yield Loop(fitting)
