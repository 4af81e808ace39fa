"""LightGBM: ``lightgbm.train`` and the estimators of its scikit-learn API."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from ..hooks.patching import Undo, replace
from ._training.hook import FitHook
from ._training.library import Library, Seam
from ._training.record import Fit
from ._training.training import current

__all__ = ["HOOK", "autolog"]


def _seams() -> Iterator[Seam]:
    import lightgbm
    from lightgbm import sklearn

    yield lightgbm, "train"
    for cls in vars(sklearn).values():
        if isinstance(cls, type) and issubclass(cls, sklearn.LGBMModel):
            yield cls, "fit"


def _predicts() -> Iterator[Seam]:
    import lightgbm

    yield lightgbm.Booster, "predict"
    for cls in vars(lightgbm.sklearn).values():
        if isinstance(cls, type) and issubclass(cls, lightgbm.LGBMModel):
            yield from ((cls, name) for name in ("predict", "predict_proba") if name in vars(cls))


def _read(fit: Fit, call: Mapping[str, Any]) -> None:
    if "train_set" in call:
        fit.name = "Booster"
        fit.set_size(call["train_set"].data)
        fit.set_params({**call.get("params", {}), "num_boost_round": call.get("num_boost_round", 100)})
    else:
        fit.set_size(call.get("X"))
        fit.set_params(call["self"].get_params())


def _epoch(env: Any) -> None:
    """Report a boosting round to the current training; a callback that LightGBM calls after each round."""
    if (fitting := current()) is not None:
        results = env.evaluation_result_list or []
        fitting.epoch(env.iteration, {f"{data}-{name}": value for data, name, value, *_ in results})


def _with_epochs(train: Any) -> Any:
    """Wrap *train* to pass a callback, because LightGBM has no list of callbacks whose method could be watched."""
    signature = inspect.signature(train)

    @functools.wraps(train)
    def train_with_callback(*args: Any, **kwargs: Any) -> Any:
        if current() is not None and len(args) < list(signature.parameters).index("callbacks"):
            kwargs = {**kwargs, "callbacks": [*(kwargs.get("callbacks") or ()), _epoch]}
        return train(*args, **kwargs)

    return train_with_callback


def _follow() -> Undo:
    with ExitStack() as undo:
        for target in ("lightgbm:train", "lightgbm.sklearn:train"):
            undo.callback(replace(target, _with_epochs))
        return undo.pop_all().close


HOOK = FitHook(
    "lightgbm",
    "lightgbm>=4.3,<5",
    ("lightgbm",),
    Library(flavor="lightgbm", seams=_seams, read=_read, follow=_follow, predicts=_predicts),
)
autolog = HOOK.autolog
