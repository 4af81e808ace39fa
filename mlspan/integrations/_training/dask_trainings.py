"""Trainings on Dask, which XGBoost and LightGBM offer alike: MLflow patches none of them, so they are logged here.

The workers train, as parts of the caller's training. What they know of its rounds the caller gets with the result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from .current import current_training

_NUMBER_KINDS: Final = "biuf"  # of NumPy's types
_EXAMPLE_ROWS: Final = 5


def add_rounds(history: object) -> None:
    """Add the rounds of a training on Dask to it.

    Args:
        history: ``{data: {metric: [value of each round]}}``; anything else adds nothing.
    """
    fitting = current_training()
    if fitting is None or not fitting.is_unlogged or not isinstance(history, Mapping):
        return
    columns = {f"{data}-{name}": values for data, of in history.items() for name, values in of.items()}
    fitting.add_epochs([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def is_awaited(fn: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether *fn* is a training function of a module on Dask, and returns an awaitable.

    It does so with an asynchronous client. That is the first argument, or the estimator's, or the current one.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None or not (getattr(fn, "__module__", None) or "").endswith(".dask"):
        return False
    with suppress(ValueError):  # there is no client: the library says so
        first = args[0] if args else kwargs.get("client")
        client = first if isinstance(first, distributed.Client) else getattr(first, "client", None)
        return bool((client or distributed.default_client()).asynchronous)
    return False


def make_rows(data: Any, options: Mapping[str, object]) -> Any:
    """Return rows for the signature of a model.

    These are rows of zeros, made from what is known of a collection that is not computed. With the option
    ``log_input_examples`` they are its first rows, for which Dask computes its first part.
    """
    dtypes = getattr(data, "dtypes", None)
    if options["log_input_examples"] and hasattr(data, "compute"):
        return data.head(_EXAMPLE_ROWS) if dtypes is not None else data[:_EXAMPLE_ROWS].compute()
    if dtypes is not None:
        return _make_frame(dict(dtypes.items()))
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and isinstance(shape[1], int):
        import numpy as np

        return np.zeros((1, shape[1]), getattr(data, "dtype", None))
    return None


def make_named_rows(names: Sequence[str] | None, count: int | None) -> Any:
    """Return a row of zeros for so many features, which may have names; None if their number is unknown."""
    import numpy as np

    if names is not None:
        return _make_frame(dict.fromkeys(names, np.dtype("float64")))
    return None if count is None else np.zeros((1, count))


def _make_frame(dtypes: Mapping[Any, Any]) -> Any:
    """Return a data frame of one row of zeros; None if a column is not of numbers."""
    import pandas as pd

    if any(getattr(dtype, "kind", "O") not in _NUMBER_KINDS for dtype in dtypes.values()):
        return None
    return pd.DataFrame({name: pd.Series([0], dtype=dtype) for name, dtype in dtypes.items()})
