"""Helpers for tests: spans are collected in memory, shown as one readable tree and held against what a test expects.

>>> with spans() as ended:
...     ask_the_model()
>>> assert ended.tree() == "chat gpt-4o-mini [12 in, 5 out]"

pytest finds the plugin :mod:`mlspan.testing.pytest_plugin` by itself: its fixture ``spans`` is the same for one test.
:mod:`mlspan.testing.contracts` has test classes for integrations to inherit. These two need pytest, which nothing else
here does. Each name is imported at its first use, because every session of pytest imports this package for the plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answer_replay import ModelAnswers, model_answers
    from .call_totals import CallTotals
    from .collected import Spans, content
    from .memory import spans
    from .tool_calls import ToolCall

__all__ = ["CallTotals", "ModelAnswers", "Spans", "ToolCall", "content", "model_answers", "spans"]

_MODULES = {
    "CallTotals": "call_totals",
    "ModelAnswers": "answer_replay",
    "Spans": "collected",
    "ToolCall": "tool_calls",
    "content": "collected",
    "model_answers": "answer_replay",
    "spans": "memory",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
