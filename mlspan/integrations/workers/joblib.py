"""joblib: the batches of tasks that ``Parallel`` submits to the processes of loky, its default backend.

Its other backends use pools of ``multiprocessing`` and Dask's client, which have hooks of their own.
"""

from __future__ import annotations

from typing import Final

from ...hooks.hook import Hook
from ._submit import replacing, submitting

HOOK: Final = Hook(
    "joblib>=1.4,<2",
    "joblib",
    replacing({"joblib.externals.loky.process_executor:ProcessPoolExecutor.submit": submitting(1)}),
    also=(
        Hook("loky>=3.4,<4", "loky", replacing({"loky.process_executor:ProcessPoolExecutor.submit": submitting(1)})),
    ),
)
autolog = HOOK.autolog
