"""``python -m`` of this is what forks the Python workers of Spark: ``pyspark.daemon``, whose workers put around each
task what surrounded the driver's action.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

from .._carry import restored

PROPERTY: Final = "mlspan.carried"


def main() -> None:
    """Serve Spark, as ``pyspark.daemon`` does, until it ends."""
    import pyspark.daemon

    pyspark.daemon.worker = _working(pyspark.daemon.worker)
    pyspark.daemon.manager()


def _working(fn: Any) -> Any:
    """Around what a fork of the daemon's runs: the worker's module is imported there, as pyspark does it."""

    @functools.wraps(fn)
    def worker(*args: Any, **kwargs: Any) -> Any:
        if sys.argv[1:2] in ([], ["pyspark.worker"]):
            import pyspark.worker

            for name in ("read_command", "read_udfs", "read_udtf"):
                if (read := getattr(pyspark.worker, name, None)) is not None:
                    setattr(pyspark.worker, name, _reading(read))
        return fn(*args, **kwargs)

    return worker


def _reading(read: Any) -> Any:
    """Around what reads a task's function: the function comes back first of four."""

    @functools.wraps(read)
    def reading(*args: Any, **kwargs: Any) -> Any:
        found = read(*args, **kwargs)
        return (_around(found[0]), *found[1:]) if isinstance(found, tuple) and len(found) == 4 else found

    return reading


def _around(fn: Any) -> Any:
    @functools.wraps(fn)
    def around(*args: Any, **kwargs: Any) -> Any:
        from pyspark import TaskContext

        task = TaskContext.get()
        with restored(task.getLocalProperty(PROPERTY) if task is not None else None):
            yield from fn(*args, **kwargs) or ()

    return around


if __name__ == "__main__":
    main()
