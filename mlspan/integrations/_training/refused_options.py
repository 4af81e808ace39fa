"""Values of options that MLflow refuses: the caller gets the error, not the log when a library is hooked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn


def check_tags(tags: object) -> None:
    """Raise the error of :func:`refuse_option` unless the tags of runs are a mapping or None."""
    if tags is not None and not isinstance(tags, Mapping):
        refuse_option(f"Invalid `extra_tags` type: expecting dictionary, received `{type(tags).__name__}`")


def refuse_option(message: str) -> NoReturn:
    """Raise the error that MLflow's own autolog raises for a value.

    Raises:
        MlflowException: always, where MLflow is installed.
        ValueError: always, where it is not.
    """
    try:
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise ValueError(message) from None
    raise MlflowException.invalid_parameter_value(message)
