"""The process that forks Spark's Python workers: ``pyspark.daemon`` with workers that restore the context of a task.

Spark runs it by ``python -m``. The context of a task is that of the driver's action.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

from ._task import restored

PROPERTY: Final = "mlspan.carried"


def main() -> None:
    """Run ``pyspark.daemon`` until Spark ends it."""
    import pyspark.daemon

    pyspark.daemon.worker = _wrap_worker(pyspark.daemon.worker)
    pyspark.daemon.manager()


def _wrap_worker(fn: Any) -> object:
    """Wrap the function that each forked worker runs. ``pyspark.worker`` is imported in the fork, as pyspark does."""

    @functools.wraps(fn)
    def worker(*args: object, **kwargs: object) -> object:
        if sys.argv[1:2] in ([], ["pyspark.worker"]):
            import pyspark.worker

            for name in ("read_command", "read_udfs", "read_udtf"):
                if (read := getattr(pyspark.worker, name, None)) is not None:
                    setattr(pyspark.worker, name, _wrap_read_command(read))
        return fn(*args, **kwargs)

    return worker


def _wrap_read_command(read: Any) -> object:
    """Wrap a function that reads a task. It returns four values, of which the first is the task's function."""

    @functools.wraps(read)
    def read_task(*args: object, **kwargs: object) -> object:
        found = read(*args, **kwargs)
        return (_wrap_task_function(found[0]), *found[1:]) if isinstance(found, tuple) and len(found) == 4 else found

    return read_task


def _wrap_task_function(fn: Any) -> object:
    """Wrap a task's function, a generator, to restore the context that is a local property of the task."""

    @functools.wraps(fn)
    def run_task(*args: Any, **kwargs: Any) -> object:
        from pyspark import TaskContext

        task = TaskContext.get()
        with restored(task.getLocalProperty(PROPERTY) if task is not None else None):
            yield from fn(*args, **kwargs) or ()

    return run_task


if __name__ == "__main__":
    main()
