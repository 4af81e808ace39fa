"""LangChain 1.x and 0.3: runnables, models, tools, retrievers, embeddings and agents, LangGraph's graphs included."""

from __future__ import annotations

from .hook import Shared

__all__ = ["HOOK", "autolog"]

HOOK = Shared("langchain-core>=0.3.60,<2", "langchain_core")
autolog = HOOK.autolog
