"""Spark: a setting of SparkConf replaces ``pyspark.daemon``, which forks the Python workers, by ``_spark_daemon``.

The context of an action is a local property of its job, which Spark passes on to each task. On this machine a worker's
Python may lack mlspan: the module that Spark starts there needs nothing of it. On other machines the executors need
mlspan, or their Python workers would not start; ``autolog(cluster=True)`` says that they have it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ..._guard import guard, warn_once
from ..._private_names import report_missing_name
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_function
from ._spark_daemon import PROPERTY
from ._submit import LOST_TASKS
from ._task import capture_task_context

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_active_spark_context": "what a Spark task does does not belong to its caller's trace",
}

_DAEMON_SETTING: Final = "spark.python.daemon.module"
_DAEMON_MODULE: Final = "mlspan_spark_daemon"
_DAEMON_FOLDER: Final = str(Path(__file__).with_name("spark_path"))

# The methods that make Spark run a job, by class. All other actions of a class call one of these.
_ACTIONS: Final = {
    "pyspark.core.context:SparkContext": ("runJob",),
    "pyspark.core.rdd:RDD": ("collect", "saveAsTextFile", "saveAsPickleFile", "toLocalIterator"),
    "pyspark.sql.classic.dataframe:DataFrame": (
        "collect",
        "count",
        "_show_string",
        "isEmpty",
        "toPandas",
        "toArrow",
        "toLocalIterator",
        "checkpoint",
        "localCheckpoint",
        "foreach",
        "foreachPartition",
    ),
    "pyspark.sql.readwriter:DataFrameWriter": ("save", "saveAsTable", "insertInto", "parquet", "csv", "json", "text"),
}


def _wrap_initialize_context(hook: Hook) -> Any:
    def make_wrapper(fn: Any) -> object:
        @functools.wraps(fn)
        def initialize(self: Any, jconf: object) -> object:
            with guard("setting up the workers of Spark"):
                _set_daemon_module(hook, jconf, self.environment)
            return fn(self, jconf)

        return initialize

    return make_wrapper


def _set_daemon_module(hook: Hook, jconf: Any, environment: dict[str, str]) -> None:
    """Set the daemon of the workers, unless the application has one, in the conf and in their *environment*."""
    master = jconf.get("spark.master", "")
    if jconf.contains(_DAEMON_SETTING):
        return
    if master.startswith("local"):  # on this machine, but perhaps under another Python: the folder is there
        paths = [_DAEMON_FOLDER, environment.get("PYTHONPATH")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        jconf.set(_DAEMON_SETTING, _DAEMON_MODULE)
    elif hook.settings.options.get("cluster"):
        jconf.set(_DAEMON_SETTING, f"{__package__}._spark_daemon")
    else:
        warn_once(
            "mlspan: the Python workers of %s are not traced; where mlspan is installed on its executors, "
            "integrations.workers.spark.autolog(cluster=True) traces them",
            master,
            place=master,
        )


def _wrap_action(fn: Any) -> object:
    @functools.wraps(fn)
    def act(*args: object, **kwargs: object) -> object:
        with _carry_job_property():
            return fn(*args, **kwargs)

    return act


@contextmanager
def _carry_job_property() -> Iterator[None]:
    """Set the current context as a local property of the Spark jobs that start inside the block."""
    from pyspark import SparkContext

    context: Any = None
    with guard("telling Spark what surrounds an action"):
        active = getattr(SparkContext, "_active_spark_context", None)
        if not hasattr(SparkContext, "_active_spark_context"):
            report_missing_name("Spark", "_active_spark_context", PRIVATE_NAMES["_active_spark_context"])
        if (
            active is not None
            and active.getLocalProperty(PROPERTY) is None
            and (task_context := capture_task_context()) is not None
        ):
            context = active
            context.setLocalProperty(PROPERTY, task_context)
    try:
        yield
    finally:
        if context is not None:
            with guard("telling Spark what surrounds an action"):
                context.setLocalProperty(PROPERTY, None)


def _install(hook: Hook) -> Undo:
    targets = {f"{owner}.{name}": _wrap_action for owner, names in _ACTIONS.items() for name in names}
    if os.name == "posix":  # Spark uses a daemon on POSIX only
        targets["pyspark.context:SparkContext._initialize_context"] = _wrap_initialize_context(hook)
    return apply_patches(
        Patch(target, functools.partial(replace_function, make=make), LOST_TASKS) for target, make in targets.items()
    )


HOOK: Final = Hook("pyspark>=4.2,<5", "pyspark.sql", _install, options=frozenset({"cluster"}))
autolog = HOOK.autolog
