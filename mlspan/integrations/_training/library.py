"""The description of a library that trains models: its training functions, and how to read their arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...hooks.patching import Undo
from .record import Fit

CHECKPOINTS: Final = frozenset(  # options of MLflow's flavors for TensorFlow and PyTorch
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
Seam = tuple[Any, str]  # a class or module, and the name of a function in it
Epoch = tuple[int | None, Mapping[str, Any]]  # the number of an epoch from 0 (None: the next), and its metrics


@dataclass(frozen=True, kw_only=True)
class Library:
    """The description of one library.

    ``flavor`` is MLflow's module for the library, below ``mlflow.``; None if MLflow has none.
    ``find_training_functions`` lists the functions to patch. ``read_arguments`` fills a record from the bound arguments
    of a training function. ``epoch_methods`` are methods that the library calls at the end of each epoch, as
    ``module:Class.method``, each with a function that reads the epoch from the arguments. ``log_model`` logs the model
    with a signature and an example where MLflow's flavor cannot: it takes the bound arguments, the result and the
    options, and returns the id of the model. ``read_data`` returns features and targets, as arrays or data frames, for
    a flavor that logs no datasets.
    """

    flavor: str | None
    seams: Callable[[], Iterable[Seam]]
    read: Callable[[Fit, Mapping[str, Any]], None]
    epochs: Mapping[str, Callable[[tuple[Any, ...]], Epoch]] = field(default_factory=dict)
    follow: Callable[[], Undo] | None = None  # reports epochs where watching a method is not enough
    log_model: Callable[[Mapping[str, Any], Any, Mapping[str, Any]], str | None] | None = None
    adds: frozenset[str] = frozenset()  # options that log_model serves and MLflow's flavor lacks
    data: Callable[[Mapping[str, Any]], tuple[Any, Any] | None] | None = None
    after: After | None = None  # reads what is known only after the training
    tidy: Callable[[dict[str, Any]], None] | None = None  # changes keyword arguments that MLflow's patch cannot take
    needs: tuple[str, ...] = ()  # modules that must be fully imported before the patch points are looked up
    predicts: Callable[[], Iterable[Seam]] | None = None  # methods of trained models that predict
    helps: bool = False  # other libraries call this one inside of their trainings; such calls are not recorded
