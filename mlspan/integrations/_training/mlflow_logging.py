"""Logging through MLflow's public API, for libraries that MLflow's autologging does not cover or covers in part."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from ..._guard import guard, log
from ...tracing.mlflow_state.runs import get_active_run_id

_MAX_PARAM_CHARS: Final = 500  # characters of a parameter's value, which is MLflow's own limit
_MAX_POINTS: Final = 1000  # values of metrics in a request, which is the limit of MLflow's server
_DIGEST_ROWS: Final = 10_000  # rows of a data frame, and values of an array, that MLflow's digest is made of
_NUMBER_KINDS: Final = "biufc"  # of NumPy's types
_rows_to_try: ContextVar[object] = ContextVar("mlspan_rows_to_try", default=None)  # what a logged model predicts from


@contextmanager
def ensure_run(name: str, tags: Mapping[str, str] | None) -> Iterator[None]:
    """Run the block inside an MLflow run: the active one, or a new one that ends with the block.

    Args:
        name: mlspan's name for the library, which becomes the tag ``mlflow.autologging``.
        tags: further tags of a new run.
    """
    run = None
    if get_active_run_id() is None:
        with guard("starting a run"):
            import mlflow

            run = mlflow.start_run(tags={**(tags or {}), "mlflow.autologging": name})
    try:
        yield
    except BaseException:
        if run is not None:
            with guard("ending a run"):
                mlflow.end_run("FAILED")
        raise
    if run is not None:
        with guard("ending a run"):
            mlflow.end_run()


def log_params(params: Mapping[str, object]) -> None:
    """Log *params* to the active run, as text."""
    import mlflow

    mlflow.log_params({name: str(value)[:_MAX_PARAM_CHARS] for name, value in params.items()})


def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Log *metrics* to the active run; *step* is the number of the epoch."""
    import mlflow

    if metrics:
        mlflow.log_metrics({_mend_name(name): value for name, value in metrics.items()}, step=step)


def _mend_name(name: str) -> str:
    """Return the name of a metric without ``@``, which MLflow refuses, as its flavors of XGBoost and LightGBM do."""
    return name.replace("@", "_at_")


def log_history(epochs: Sequence[Mapping[str, float]]) -> None:
    """Log the metrics of all *epochs* to the active run, with few requests."""
    import mlflow
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    points = [
        Metric(_mend_name(name), float(value), now, number)
        for number, metrics in enumerate(epochs)
        for name, value in metrics.items()
    ]
    try:
        _log_points(points)
    except mlflow.MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        _log_each_metric(points)


def _log_points(points: Sequence[Any]) -> None:
    import mlflow

    run_id = get_active_run_id()
    for start in range(0, len(points), _MAX_POINTS):
        mlflow.MlflowClient().log_batch(run_id, metrics=points[start : start + _MAX_POINTS])


def _log_each_metric(points: Sequence[Any]) -> None:
    """Log the points of each metric in requests of its own, as MLflow has refused one of them."""
    import mlflow

    for name in dict.fromkeys(point.key for point in points):
        try:
            _log_points([point for point in points if point.key == name])
        except mlflow.MlflowException as error:
            log.warning("mlspan: the metric %s is not logged: %s", name, error)


def log_model_with_example(
    log_model: Callable[..., Any],
    model: object,
    rows: object,
    predict: Callable[[object], object],
    options: Mapping[str, object],
    **arguments: Any,
) -> str | None:
    """Log *model* with an input example and a signature; return the id of the logged model.

    Without rows, the model has neither. If it cannot predict from them, or not once it is loaded, it gets no signature,
    and a warning says so.

    Args:
        log_model: ``log_model`` of an MLflow flavor.
        model: the model, as *log_model* takes it.
        rows: a few rows of the training data: the input example, and the inputs of the signature.
        predict: returns the model's outputs for rows, for the signature.
        options: the options of the hook.
        arguments: further arguments of *log_model*.
    """
    example, signature = None, None
    try:
        if rows is not None and options["log_model_signatures"]:
            from mlflow.models import infer_signature

            signature = infer_signature(rows, predict(copy.deepcopy(rows)))
        example = rows if options["log_input_examples"] else None
    except Exception as error:  # noqa: BLE001  # the library may raise anything from a model that cannot predict
        log.warning("mlspan: the model is logged without a signature: %s", error)
    name = options["registered_model_name"]
    # False keeps MLflow from inferring a signature of its own from the example
    kept = signature if signature is not None else (False if example is not None else None)
    token = _rows_to_try.set(rows if signature is not None else None)
    try:
        info = log_model(
            model, name="model", signature=kept, input_example=example, registered_model_name=name, **arguments
        )
    finally:
        _rows_to_try.reset(token)
    return str(info.model_id) if getattr(info, "model_id", None) else None


def try_saved_model(save_model: Callable[..., Any]) -> Callable[..., Any]:
    """Return the ``save_model`` of a flavor, which then loads the model as callers will and predicts from the rows.

    A model that cannot do so loses its signature: with it, MLflow would refuse what callers have, or let through what
    fails. Outside of :func:`log_model_with_example` nothing is tried.
    """

    @functools.wraps(save_model)
    def save_and_try(*args: Any, **kwargs: Any) -> None:
        save_model(*args, **kwargs)
        rows, path, saved = _rows_to_try.get(), kwargs.get("path"), kwargs.get("mlflow_model")
        if rows is None or path is None or saved is None:
            return
        import mlflow.pyfunc

        try:
            mlflow.pyfunc.load_model(path).predict(copy.deepcopy(rows))
        except Exception as error:  # noqa: BLE001  # whatever a library raises for a model that it has stored
            log.warning(
                "mlspan: the model is logged without a signature, as it does not predict once loaded: %s", error
            )
            saved.signature = None
            saved.save(str(Path(path, "MLmodel")))

    return save_and_try


def log_training_data(found: tuple[Any, object] | None) -> None:
    """Log the training data as an input of the active run.

    Args:
        found: features and targets, as arrays or data frames; None logs nothing.
    """
    if found is None:
        return
    import mlflow.data  # mlflow-skinny does not import it with mlflow

    features, targets = found
    digest = _compute_digest(features, targets)
    if hasattr(features, "columns"):
        data = mlflow.data.from_pandas(features, digest=digest)
    else:
        data = mlflow.data.from_numpy(features, targets=targets, digest=digest)
    mlflow.log_input(data, context="train")


def read_first_rows(data: object, count: int) -> tuple[object, object] | None:
    """Return inputs and labels of the first *count* rows of a dataset, as arrays.

    Labels are None if the rows have none. Return None if the dataset cannot be indexed by row number.
    """
    import numpy as np

    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__") or not len(data):
        return None
    rows = [data[number] for number in range(min(count, len(data)))]
    columns = list(zip(*rows, strict=False)) if isinstance(rows[0], (tuple, list)) else [rows]
    arrays = [np.asarray([_to_array(one) for one in column]) for column in columns[:2]]
    return (arrays[0], arrays[1] if len(arrays) > 1 else None) if arrays[0].dtype != object else None


def _to_array(tensor: object) -> object:
    """Return a tensor of PyTorch, Paddle or MXNet as an array, and any other value unchanged."""
    for name in ("asnumpy", "numpy"):
        if callable(convert := getattr(tensor, name, None)):
            return convert()
    return tensor


def _compute_digest(features: Any, targets: Any) -> str | None:
    """Return the digest that MLflow gives large data; None for small data, and where only MLflow can tell.

    MLflow's own function reads no more than the beginning, but first copies an array, or looks at each value of a data
    frame. Without that function, or if it reads something else, MLflow makes the digest itself.
    """
    if not hasattr(features, "shape") or features.shape[0] <= _DIGEST_ROWS:
        return None
    try:
        from mlflow.data import digest_utils

        if not hasattr(features, "columns"):
            return str(digest_utils.compute_numpy_digest(_Head(features), None if targets is None else _Head(targets)))
        if all(getattr(dtype, "kind", "O") in _NUMBER_KINDS for dtype in features.dtypes):
            return str(digest_utils.compute_pandas_digest(_NumberFrame(features)))
    except (ImportError, AttributeError, TypeError):
        pass
    return None


class _Head:
    """The beginning of an array with the shape of all of it: what MLflow makes a digest of."""

    def __init__(self, array: Any) -> None:
        self.shape = array.shape
        self._rows = array[: -(-_DIGEST_ROWS * self.shape[0] // max(array.size, 1))]

    def flatten(self) -> Any:
        return self._rows.flatten()


class _NumberFrame:
    """A data frame of numbers for MLflow's digest, which looks for columns of texts: the first row tells of none."""

    def __init__(self, frame: Any) -> None:
        first = frame.head(1)
        self.columns, self.head, self.map, self.applymap = frame.columns, frame.head, first.map, first.map
        self._rows = len(frame)

    def __len__(self) -> int:
        return self._rows
