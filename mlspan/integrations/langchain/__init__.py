"""LangChain 1.x and 0.3: runnables, models, tools, retrievers, embeddings and agents, LangGraph's graphs included."""

from __future__ import annotations

from .hook import SharedHook

__all__ = ["HOOK", "autolog"]

HOOK = SharedHook("langchain-core>=0.3.60,<2", "langchain_core")
autolog = HOOK.autolog
