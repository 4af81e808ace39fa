"""Helpers for tests: spans are collected in memory and shown as one readable tree.

>>> with spans() as ended:
...     ask_the_model()
>>> assert ended.tree() == "chat gpt-4o-mini [12 in, 5 out]"

:mod:`mlspan.testing.contracts` has test classes for integrations to inherit. It needs pytest, which nothing else here
does.
"""

from __future__ import annotations

from .collected import Spans, content
from .memory import spans

__all__ = ["Spans", "content", "spans"]
