"""The description of a library that trains models: its training functions, and how to read their arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...hooks.patching import Undo
from .record import TrainingRecord

CHECKPOINT_OPTIONS: Final = frozenset(  # options of MLflow's flavors for TensorFlow and PyTorch
    {
        "checkpoint",
        "checkpoint_monitor",
        "checkpoint_mode",
        "checkpoint_save_best_only",
        "checkpoint_save_weights_only",
        "checkpoint_save_freq",
    }
)

ReadResult = Callable[
    [TrainingRecord, Mapping[str, Any], Any], "Mapping[str, float] | None"
]  # (record, arguments, result) -> metrics
PatchPoint = tuple[Any, str]  # a class or module, and the name of a function in it
EpochResult = tuple[int | None, Mapping[str, Any]]  # the number of an epoch from 0 (None: the next), and its metrics


@dataclass(frozen=True, kw_only=True)
class TrainingLibrary:
    """The description of one library.

    ``flavor`` is MLflow's module for the library, below ``mlflow.``; None if MLflow has none.
    ``find_training_functions`` lists the functions to patch; ``find_unlogged_functions`` further ones, which MLflow's
    flavor leaves alone, and mlspan logs as those of a library without a flavor. ``read_arguments`` fills a record from
    the bound arguments of a training function. ``epoch_methods`` are methods that the library calls at the end of each
    epoch, as ``module:Class.method``, each with a function that reads the epoch from the arguments. ``log_model`` logs
    the model with a signature and an example where MLflow's flavor cannot: it takes the bound arguments, the result
    and the options, and returns the id of the model. ``read_data`` returns features and targets, as arrays or data
    frames, for a flavor that logs no datasets.
    """

    flavor: str | None
    find_training_functions: Callable[[], Iterable[PatchPoint]]
    read_arguments: Callable[[TrainingRecord, Mapping[str, object]], None]
    find_unlogged_functions: Callable[[], Iterable[PatchPoint]] = tuple
    epoch_methods: Mapping[str, Callable[[tuple[object, ...]], EpochResult]] = field(default_factory=dict)
    patch_epochs: Callable[[], Undo] | None = None  # reports epochs where watching a method is not enough
    log_model: Callable[[Mapping[str, object], object, Mapping[str, object]], str | None] | None = None
    added_options: frozenset[str] = frozenset()  # options that log_model serves and MLflow's flavor lacks
    read_data: Callable[[Mapping[str, object]], tuple[object, object] | None] | None = None
    read_result: ReadResult | None = None  # reads what is known only after the training
    adjust_arguments: Callable[[dict[str, object]], None] | None = (
        None  # changes keyword arguments that MLflow's patch cannot take
    )
    required_modules: tuple[str, ...] = ()  # modules that must be fully imported before the patch points are looked up
    find_prediction_methods: Callable[[], Iterable[PatchPoint]] | None = None  # methods of trained models that predict
    find_rank: Callable[[tuple[Any, ...]], int] | None = None  # of this process among those that train one model
    # Whether a call of a function, with these arguments, trains only after it has returned: it is left alone.
    trains_later: Callable[[Callable[..., object], tuple[Any, ...], Mapping[str, Any]], bool] | None = None
    check_options: Callable[[Mapping[str, object]], str | None] | None = None  # returns what is wrong with an option
    # Modules of estimators that the library also fits for itself, outside of trainings: such a call is not recorded.
    helper_modules: tuple[str, ...] = ()
    is_helper: bool = False  # other libraries call this one inside of their trainings; such calls are not recorded

    def find_patch_points(self) -> Iterator[PatchPoint]:
        """Yield all training functions."""
        yield from self.find_training_functions()
        yield from self.find_unlogged_functions()
