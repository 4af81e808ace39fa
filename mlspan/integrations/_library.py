"""What there is to know of a library that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ._fitting import Fit
from ._patch import Undo

CHECKPOINTS: Final = frozenset(  # options of TensorFlow's flavor and of PyTorch's
    {
        "checkpoint",
        "checkpoint_monitor",
        "checkpoint_mode",
        "checkpoint_save_best_only",
        "checkpoint_save_weights_only",
        "checkpoint_save_freq",
    }
)

After = Callable[[Fit, Mapping[str, Any], Any], "Mapping[str, float] | None"]  # (record, arguments, result) -> metrics
Seam = tuple[Any, str]  # a class or module, and the name of the function there that trains
Epoch = tuple[int | None, Mapping[str, Any]]  # its number from 0, and its metrics


@dataclass(frozen=True, kw_only=True)
class Library:
    """What there is to know of one library.

    ``read`` fills a record from the bound arguments of the call that trains. ``epochs`` are methods that the library
    calls at each epoch's end, with what tells an epoch from their arguments. ``log_model`` logs the model, with a
    signature and an example, where MLflow's flavor cannot: it is given the bound arguments, the result, and the
    settings that were asked for, and returns the model's id. ``data`` finds features and targets, arrays or frames,
    for a flavor that logs no datasets.
    """

    flavor: str | None
    seams: Callable[[], Iterable[Seam]]
    read: Callable[[Fit, Mapping[str, Any]], None]
    epochs: Mapping[str, Callable[[tuple[Any, ...]], Epoch]] = field(default_factory=dict)
    follow: Callable[[], Undo] | None = None  # where an epoch needs more than a method to watch
    log_model: Callable[[Mapping[str, Any], Any, Mapping[str, Any]], str | None] | None = None
    adds: frozenset[str] = frozenset()  # options that log_model serves
    data: Callable[[Mapping[str, Any]], tuple[Any, Any] | None] | None = None
    after: After | None = None  # reads what only the end of a training tells
    tidy: Callable[[dict[str, Any]], None] | None = None  # keyword arguments as MLflow's patch needs them
    needs: tuple[str, ...] = ()  # modules whose import must not be under way when the seams are looked for
    predicts: Callable[[], Iterable[Seam]] | None = None  # methods of trained models that predict
    helps: bool = False  # other libraries use this one inside of their trainings, which are no trainings of their own
