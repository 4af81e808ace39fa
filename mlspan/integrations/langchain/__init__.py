"""LangChain 1.x and 0.3: runnables, models, tools, retrievers, embeddings and agents, LangGraph's graphs included.

``hook.py`` installs, ``callbacks.py`` makes the spans, ``messages.py`` and ``runnable_values.py`` read inputs and
outputs, ``runnable_records.py`` chooses the record of a runnable, and ``langgraph_edges.py`` has what only graphs need.
"""

from __future__ import annotations

from .hook import SharedHook

__all__ = ["HOOK", "autolog"]

HOOK = SharedHook("langchain-core>=0.3.60,<2", "langchain_core")
autolog = HOOK.autolog
