"""What a Python worker of Spark runs: ``pyspark.worker``, with what surrounds the driver's action around each task."""

from __future__ import annotations

import functools
from typing import Any, Final

from .._carry import restored

PROPERTY: Final = "mlspan.carried"


def main(infile: Any, outfile: Any) -> None:
    """Serve one task, as ``pyspark.worker.main`` does. Called by the daemon, in a process that it has forked."""
    import pyspark.worker

    for name in ("read_command", "read_udfs", "read_udtf"):
        read = getattr(pyspark.worker, name, None)
        if read is not None and not hasattr(read, "_mlspan"):
            setattr(pyspark.worker, name, _reading(read))
    pyspark.worker.main(infile, outfile)


def _reading(read: Any) -> Any:
    """Around what reads a task's function: the function comes back first of four."""

    @functools.wraps(read)
    def reading(*args: Any, **kwargs: Any) -> Any:
        found = read(*args, **kwargs)
        return (_around(found[0]), *found[1:]) if isinstance(found, tuple) and len(found) == 4 else found

    reading._mlspan = True  # type: ignore[attr-defined]
    return reading


def _around(fn: Any) -> Any:
    @functools.wraps(fn)
    def around(*args: Any, **kwargs: Any) -> Any:
        from pyspark import TaskContext

        task = TaskContext.get()
        with restored(task.getLocalProperty(PROPERTY) if task is not None else None):
            yield from fn(*args, **kwargs) or ()

    return around
