"""Contracts: test classes that an integration's tests inherit. They need pytest, as the plugin does.

A contract says what holds for every traced call or stream. The class that inherits it says how to make one::

    class TestCalls(contracts.CallContract):
        span = "chat tiny-1"
        tokens = (2, 3)
        texts = ("hello", "you said hello")
        fails = tinyllm.Refused

        def autolog(self, **options):
            integration.autolog(**options)

        def list_targets(self):
            return [(tinyllm.Client, "ask")]

        def make_call(self):
            return tinyllm.Client().ask("hello")

        def make_failing_call(self):
            return tinyllm.Client().ask("")
"""

from __future__ import annotations

try:
    import pytest
except ImportError as missing:
    raise ImportError("mlspan.testing.contracts needs pytest: pip install pytest") from missing

pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in ("base", "calls", "streams", "async_streams")))

from .async_streams import AsyncStreamContract  # noqa: E402  # rewritten first
from .base import Contract  # noqa: E402
from .calls import AsyncCallContract, CallContract  # noqa: E402
from .streams import StreamContract  # noqa: E402

__all__ = ["AsyncCallContract", "AsyncStreamContract", "CallContract", "Contract", "StreamContract"]
