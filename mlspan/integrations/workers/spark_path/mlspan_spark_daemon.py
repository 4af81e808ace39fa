# ruff: noqa: INP001  # a folder on the path of others, and no package of ours
"""The module that Spark runs in the place of ``pyspark.daemon``; it needs nothing of mlspan.

Spark's Python workers may run under another Python, where mlspan is not installed, or another version of it is: then it
is ``pyspark.daemon`` and nothing else. The folder of this file holds no other: it stands on the workers' path.
"""

from __future__ import annotations

from collections.abc import Callable


def main() -> None:
    """Run the daemon that traces what the workers do, or Spark's own where that cannot be imported."""
    run = _find_daemon()
    run()  # outside of any ``except``: the errors of tasks would name the import's as their context


def _find_daemon() -> Callable[[], object]:
    try:
        from mlspan.integrations.workers import _spark_daemon
    except Exception:  # noqa: BLE001  # whatever an import raises in a Python that is not ours
        import pyspark.daemon

        manager: Callable[[], object] = pyspark.daemon.manager
        return manager
    return _spark_daemon.main


if __name__ == "__main__":
    main()
