"""LiteLLM, imported without a request for its prices, with the threads of its pool made."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
litellm: Any = pytest.importorskip("litellm", reason="in the nox session litellm")
from litellm.litellm_core_utils.thread_pool_executor import executor


def _make_threads() -> None:
    """Make the pool's threads, which it keeps: no test is to leave one behind."""
    together = threading.Barrier(executor._max_workers)
    for one in [executor.submit(together.wait, 10) for _ in range(together.parties)]:
        one.result(10)


_make_threads()
