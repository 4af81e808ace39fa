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
from .._shape import dig
from ..hooks.patching import Undo, replace
from ._training.hook import FitHook
from ._training.library import Library, Seam
from ._training.mlflow_logging import first_rows, log_with
from ._training.record import Fit
from ._training.training import Fitting, current

__all__ = ["HOOK", "autolog", "training"]

_ESTIMATOR: Final = "mxnet.gluon.contrib.estimator.estimator"
_MODEL: Final = Path(__file__).with_name("_training") / "pyfunc_gluon.py"


def _seams() -> Iterator[Seam]:
    from mxnet.gluon.contrib.estimator.estimator import Estimator

    yield Estimator, "fit"


def _read(fit: Fit, call: Mapping[str, Any]) -> None:
    estimator, data = call["self"], call.get("train_data")
    fit.name = type(estimator.net).__name__
    dataset = getattr(data, "_dataset", None)
    fit.set_size(dataset)
    if (rows := _rows(call, 1)) is not None and rows[0].ndim == 2:
        fit.features = rows[0].shape[1]
    trainer = estimator.trainer
    fit.set_params(
        {
            **{name: value for name, value in call.items() if isinstance(value, (str, int, float))},
            "optimizer": type(dig(trainer, "_optimizer", object)).__name__,
            "learning_rate": dig(trainer, "learning_rate", float),
            "loss": type(estimator.loss).__name__,
            "batch_size": dig(data, "_batch_sampler._batch_size", int),
        }
    )


def _rows(call: Mapping[str, Any], count: int) -> tuple[Any, Any] | None:
    """Return inputs and labels of the first *count* rows, as arrays; None if rows cannot be indexed."""
    return first_rows(getattr(call.get("train_data"), "_dataset", None), count)


def _follow() -> Undo:
    return replace(f"{_ESTIMATOR}:Estimator.fit", _with_epochs)


def _with_epochs(fit: Any) -> Any:
    from mxnet.gluon.contrib.estimator import EpochEnd

    class Epochs(EpochEnd):  # type: ignore[misc]  # MXNet's
        def epoch_end(self, estimator: Any, *_: Any, **__: Any) -> None:
            if (fitting := current()) is not None:
                metrics = [*estimator.train_metrics, *estimator.val_metrics]
                named = [metric.get() for metric in metrics]
                fitting.epoch(None, {name: value for name, value in named if value == value})  # noqa: PLR0124  # no NaN

    @functools.wraps(fit)
    def fit_with_handler(self: Any, *args: Any, **kwargs: Any) -> Any:
        if current() is not None and len(args) < 4:  # event_handlers is the fourth
            given = kwargs.get("event_handlers") or ()
            kwargs["event_handlers"] = [*(given if isinstance(given, (list, tuple)) else [given]), Epochs()]
        return fit(self, *args, **kwargs)

    return fit_with_handler


def _log_model(call: Mapping[str, Any], _: Any, options: Mapping[str, Any]) -> str | None:
    return log_network(call["self"].net, _rows(call, 5), options)


def log_network(network: Any, rows: tuple[Any, Any] | None, options: Mapping[str, Any]) -> str | None:
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

    def predict_array(inputs: Any) -> Any:
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
        return log_with(
            lambda model, **more: log(python_model=str(model), **more), _MODEL, inputs, predict_array, options
        )


HOOK = FitHook(
    "gluon",
    "mxnet>=1.9,<2",
    (_ESTIMATOR,),
    Library(
        flavor=None,
        seams=_seams,
        read=_read,
        follow=_follow,
        log_model=_log_model,
        data=lambda call: _rows(call, 1000),
    ),
)
autolog = HOOK.autolog


class Loop:
    """A training that is written as a plain loop; :func:`training` yields it."""

    def __init__(self, fitting: Fitting | None) -> None:
        self._fitting = fitting

    def epoch(self, **metrics: float) -> None:
        """Record the end of an epoch and its metrics."""
        if self._fitting is not None:
            with guard("noting an epoch"):
                self._fitting.epoch(None, metrics)


@contextmanager
def training(network: Any, trainer: Any, *, data: Any = None, loss: Any = None, **params: Any) -> Iterator[Loop]:
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
    importlib.import_module(_ESTIMATOR)  # a hook that waits for this import makes its patches now
    call = {"self": SimpleNamespace(net=network, trainer=trainer, loss=loss), "train_data": data, **params}
    with HOOK.training(call) as fitting:
        yield Loop(fitting)
