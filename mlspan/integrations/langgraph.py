"""LangGraph 0.6 and 1.x: graphs, nodes, edges, checkpoints and interrupts, and what of LangChain runs in them."""

from __future__ import annotations

from .langchain.hook import Shared

__all__ = ["HOOK", "autolog"]

HOOK = Shared("langgraph>=0.6,<2", "langgraph")
autolog = HOOK.autolog
