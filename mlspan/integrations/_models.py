"""What MLflow has no autologging for, logged by its public API: runs, models with an example and a signature, data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from .._guard import guard, log
from ..tracing.context import active_run_id

_LONGEST: Final = 500  # characters of a parameter's value


@contextmanager
def run_of(name: str, tags: Mapping[str, str] | None) -> Iterator[None]:
    """The caller's run, or one for a training of library *name*, which ends as the training does."""
    run = None
    if active_run_id() is None:
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


def log_params(params: Mapping[str, Any]) -> None:
    import mlflow

    mlflow.log_params({name: str(value)[:_LONGEST] for name, value in params.items()})


def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
    import mlflow

    if metrics:
        mlflow.log_metrics(dict(metrics), step=step)


def log_with(
    log_model: Callable[..., Any],
    model: Any,
    rows: Any,
    predict: Callable[[Any], Any],
    asked: Mapping[str, Any],
    **more: Any,
) -> str | None:
    """Log *model* by *log_model* of a flavor; *rows* are its example, of which and ``predict(rows)`` the signature is.

    Without rows, or where the model cannot predict from them, the model goes without, and a line says so.
    """
    example, signature = None, None
    try:
        if rows is not None and asked["log_model_signatures"]:
            from mlflow.models import infer_signature

            signature = infer_signature(rows, predict(copy.deepcopy(rows)))
        example = rows if asked["log_input_examples"] else None
    except Exception as error:  # noqa: BLE001  # the library's, of a model that may not predict
        log.warning("mlspan: the model is logged without a signature: %s", error)
    name = asked["registered_model_name"]
    # False keeps MLflow from inferring a signature of its own from the example
    kept = signature if signature is not None else (False if example is not None else None)
    info = log_model(model, name="model", signature=kept, input_example=example, registered_model_name=name, **more)
    return str(info.model_id) if getattr(info, "model_id", None) else None


def log_data(found: tuple[Any, Any] | None) -> None:
    """Log features and targets, arrays or frames, as what the active run was trained with."""
    if found is None:
        return
    import mlflow
    import mlflow.data  # does not come with mlflow-skinny's top

    features, targets = found
    if hasattr(features, "columns"):
        data = mlflow.data.from_pandas(features)
    else:
        data = mlflow.data.from_numpy(features, targets=targets)
    mlflow.log_input(data, context="train")


def first_rows(data: Any, count: int) -> tuple[Any, Any] | None:
    """Inputs and labels of the first *count* rows of a dataset, as arrays; None where rows cannot be looked up."""
    import numpy as np

    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__") or not len(data):
        return None
    rows = [data[number] for number in range(min(count, len(data)))]
    columns = list(zip(*rows, strict=False)) if isinstance(rows[0], (tuple, list)) else [rows]
    arrays = [np.asarray([_array(one) for one in column]) for column in columns[:2]]
    return (arrays[0], arrays[1] if len(arrays) > 1 else None) if arrays[0].dtype != object else None


def _array(tensor: Any) -> Any:
    """Of a tensor of PyTorch's, Paddle's or MXNet's; numbers and arrays are as they are."""
    for name in ("asnumpy", "numpy"):
        if callable(convert := getattr(tensor, name, None)):
            return convert()
    return tensor
