"""fastai. MLflow has dropped its flavor for it, so runs, epochs, early stopping and a pyfunc model are logged here."""

from __future__ import annotations

import functools
import importlib.metadata
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .._shape import get_nested
from ..hooks.patching import Patch, Undo, apply_patches, replace_function
from ._training.current import current_training
from ._training.hook import TrainingHook
from ._training.library import PatchPoint, TrainingLibrary
from ._training.mlflow_logging import log_model_with_example
from ._training.record import TrainingRecord

__all__ = ["HOOK", "autolog"]

_TRAINING_METHODS: Final = ("fit", "fit_one_cycle", "fit_flat_cos", "fit_sgdr", "fine_tune")
_PYFUNC_FILE: Final = Path(__file__).with_name("_training") / "pyfunc_fastai.py"


def _find_training_functions() -> Iterator[PatchPoint]:
    import fastai.callback.schedule  # adds all of these methods but fit to Learner

    learner = fastai.learner.Learner
    for name in _TRAINING_METHODS:
        if hasattr(learner, name):
            yield learner, name


def _read_training(fit: TrainingRecord, call: Mapping[str, Any]) -> None:
    learner = call["self"]
    fit.name = type(learner.model).__name__
    data = get_nested(learner, "dls.train.dataset", object)
    fit.set_size(data)
    if (names := get_nested(learner, "dls.x_names", object)) is not None:
        fit.features = len(names)  # type: ignore[arg-type]  # a list of fastai's
    arguments = {name: value for name, value in call.items() if isinstance(value, (int, float))}
    params = {
        "opt_func": get_nested(learner, "opt_func.__name__", str) or str(learner.opt_func),
        "loss_func": type(learner.loss_func).__name__,
        "learning_rate": learner.lr,
        "batch_size": get_nested(learner, "dls.train.bs", int),
        "callbacks": ", ".join(type(callback).__name__ for callback in learner.cbs),
    }
    for stopping in _find_early_stopping(learner, call):
        params |= {f"early_stopping_{name}": getattr(stopping, name) for name in ("monitor", "patience", "min_delta")}
    fit.set_params({**params, **arguments})


def _find_early_stopping(learner: Any, call: Mapping[str, Any]) -> list[Any]:
    """Return the callbacks for early stopping, of the learner and of this call."""
    from fastcore.foundation import L

    return [
        callback
        for callback in [*learner.cbs, *L(call.get("cbs"))]
        if type(callback).__name__ == "EarlyStoppingCallback"
    ]


def _read_early_stopping(_: TrainingRecord, call: Mapping[str, Any], __: object) -> Mapping[str, float] | None:
    """Return the epoch at which early stopping stopped and the best value; None if it did not stop the training."""
    for stopping in _find_early_stopping(call["self"], call):
        if stopping.wait >= stopping.patience:
            return {"stopped_epoch": float(call["self"].epoch), "best_value": float(stopping.best)}
    return None


def _patch_learner() -> Undo:
    make = functools.partial(replace_function, make=_add_epoch_callback)
    return apply_patches([Patch("fastai.learner:Learner.fit", make, "the metrics of each epoch")])


def _add_epoch_callback(fit: Any) -> object:
    from fastai.callback.core import Callback
    from fastcore.foundation import L

    class Epochs(Callback):  # type: ignore[misc]  # fastai's
        order = 60  # runs after fastai's Recorder, which computes the metrics

        def after_epoch(self) -> None:
            fitting, recorder = current_training(), self.learn.recorder
            if fitting is not None and recorder.values:
                fitting.end_epoch(None, dict(zip(recorder.metric_names[1:], recorder.values[-1], strict=False)))

    @functools.wraps(fit)
    def fit_with_callback(self: Any, *args: object, **kwargs: object) -> object:
        if current_training() is not None and len(args) < 4:  # cbs is the fourth
            kwargs["cbs"] = [*L(kwargs.get("cbs")), Epochs()]
        return fit(self, *args, **kwargs)

    return fit_with_callback


def _read_frame(learner: Any, *columns: str) -> Any:
    """Return the training data of a tabular learner as a data frame; None for any other learner.

    Args:
        learner: a fastai learner.
        columns: ``"x_names"``, ``"y_names"``, or both: the attributes of ``learner.dls`` that name the columns.
    """
    rows: Any = get_nested(learner, "dls.train.dataset", object)
    if not hasattr(rows, "decode") or not hasattr(learner.dls, "x_names"):
        return None
    frame = rows.decode().items  # the values from before fastai normalised them
    frame = frame[[name for column in columns for name in getattr(learner.dls, column)]]
    # fastai has cast the columns to float32; what callers predict from is float64.
    return frame.astype(dict.fromkeys(frame.select_dtypes("float32").columns, "float64"))


def _read_training_frame(call: Mapping[str, object]) -> tuple[object, object] | None:
    frame = _read_frame(call["self"], "x_names", "y_names")
    return None if frame is None else (frame, None)


def _log_model(call: Mapping[str, Any], _: Any, options: Mapping[str, object]) -> str | None:
    import mlflow.pyfunc

    learner = call["self"]
    frame = _read_frame(learner, "x_names")
    rows = None if frame is None else frame[:5]

    def predict_frame(rows: object) -> object:
        with learner.no_bar(), learner.no_logging():
            return learner.get_preds(dl=learner.dls.test_dl(rows))[0].numpy()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "learner.pkl")
        learner.export(path)
        needs = [f"{name}=={importlib.metadata.version(name)}" for name in ("fastai", "torch")]
        log = functools.partial(mlflow.pyfunc.log_model, pip_requirements=needs, artifacts={"learner": str(path)})
        return log_model_with_example(
            lambda model, **more: log(python_model=str(model), **more), _PYFUNC_FILE, rows, predict_frame, options
        )


HOOK = TrainingHook(
    "fastai",
    "fastai>=2.7,<3",
    ("fastai.learner",),
    TrainingLibrary(
        flavor=None,
        find_training_functions=_find_training_functions,
        read_arguments=_read_training,
        patch_epochs=_patch_learner,
        read_result=_read_early_stopping,
        log_model=_log_model,
        read_data=_read_training_frame,
    ),
)
autolog = HOOK.autolog
