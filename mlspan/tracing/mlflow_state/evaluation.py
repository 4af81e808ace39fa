"""``mlflow.genai.evaluate(predict_fn=...)``: each call is one trace, with our spans, which the scorers get.

MLflow turns its own autologging on for the time of an evaluation. It stays off for a library that mlspan records, as
each call would be recorded twice. The function then gets a span of MLflow's around it, which has the evaluation's
request id and run, and our spans are below it. MLflow calls the function once before, to see whether it works; that
call is not recorded, as MLflow does not record it either.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ..._import_waiting import patch_when_imported
from ..._patching import Patch, Undo, replace_method
from ..operations.suppression import RecordingCheck, suppress_and_check

_AUTOLOG_MODULE: Final = "mlflow.models.evaluation.utils.trace"
_EVALUATION_MODULE: Final = "mlflow.genai.evaluation.base"
_IS_TRACED: Final = "__mlflow_traced__"  # what mlflow.trace leaves on a function


class RecordedLibrary(NamedTuple):
    """A library that an integration of ours has patched."""

    module: str  # the module that the integration patches
    find_name: Callable[[], str | None]  # the integration's name
    is_on: Callable[[], bool]  # whether calls are recorded


recorded_libraries: Final[dict[object, RecordedLibrary]] = {}  # by the hook


def follow_evaluations() -> Undo:
    """Have MLflow's evaluations see our spans, once MLflow is imported, until the returned function is called."""
    autolog = Patch(
        f"{_AUTOLOG_MODULE}:_should_enable_tracing",
        lambda target: replace_method(target, _leave_out_recorded),
        "one trace for each call of an evaluation: MLflow's autologging records it as well",
    )
    predict = Patch(
        f"{_EVALUATION_MODULE}:convert_predict_fn",
        lambda target: replace_method(target, _trace_predict_fn),
        "the spans of an evaluation's calls for its scorers",
    )
    return patch_when_imported([autolog, predict])


def _leave_out_recorded(original: Callable[..., bool], enabled: list[bool]) -> Callable[..., bool]:
    @functools.wraps(original)
    def should_enable_tracing(flavor: str, *args: object, **kwargs: object) -> bool:
        return not (enabled and find_recording_integration(flavor) is not None) and original(flavor, *args, **kwargs)

    return should_enable_tracing


def find_recording_integration(flavor: str) -> str | None:
    """Return the name of our integration that records the library that *flavor* is MLflow's name of; None if none."""
    modules = getattr(sys.modules.get("mlflow.ml_package_versions"), "FLAVOR_TO_MODULE_NAME", {})
    module = modules.get(flavor, flavor)
    for one in list(recorded_libraries.values()):
        name = one.find_name()
        if one.is_on() and (one.module == module or one.module.startswith(f"{module}.") or name == flavor):
            return name or one.module
    return None


def _trace_predict_fn(original: Callable[..., Any], enabled: list[bool]) -> Callable[..., Any]:
    @functools.wraps(original)
    def convert_predict_fn(predict_fn: Callable[..., Any], sample_input: object) -> object:
        if not enabled:
            return original(predict_fn=predict_fn, sample_input=sample_input)
        if getattr(predict_fn, _IS_TRACED, False):
            return _convert(original, predict_fn, predict_fn, sample_input)
        named = predict_fn if hasattr(predict_fn, "__name__") else _name_function(predict_fn)
        traced = sys.modules["mlflow"].trace(named)
        is_recorded = any(one.is_on() for one in list(recorded_libraries.values()))
        return _convert(original, traced if is_recorded else named, traced, sample_input)

    return convert_predict_fn


def _name_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls *fn*, such as a partial, which MLflow cannot trace as it has no name."""

    @functools.wraps(fn)
    def call(*args: object, **kwargs: object) -> object:
        return fn(*args, **kwargs)

    call.__name__ = getattr(getattr(fn, "func", None), "__name__", type(fn).__name__)
    return call


def _convert(
    original: Callable[..., Any], fn: Callable[..., Any], traced: Callable[..., Any], sample_input: object
) -> object:
    """Convert *fn* as MLflow does. The call that it makes to check the function is not recorded.

    If that call would have been recorded by us, the function gets MLflow's span around it (*traced*), which MLflow
    leaves out if it sees spans of its own inside.
    """
    is_checking, check = [True], RecordingCheck()

    def choose() -> Callable[..., Any]:
        is_outermost = check.would_record and sys.modules["mlflow"].get_current_active_span() is None
        return traced if is_outermost else fn

    @functools.wraps(fn)
    def call_checked(*args: object, **kwargs: object) -> object:
        if not is_checking:
            return choose()(*args, **kwargs)
        with suppress_and_check(check):
            return fn(*args, **kwargs)

    @functools.wraps(fn)
    async def call_async(*args: object, **kwargs: object) -> object:
        if not is_checking:
            return await choose()(*args, **kwargs)
        with suppress_and_check(check):
            return await fn(*args, **kwargs)

    try:
        return original(
            predict_fn=call_async if inspect.iscoroutinefunction(fn) else call_checked, sample_input=sample_input
        )
    finally:
        is_checking.clear()
