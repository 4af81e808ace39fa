"""LangGraph 0.6 and 1.x: graphs, nodes, edges, checkpoints and interrupts, and what of LangChain runs in them.

This is only its ``autolog``. The code is in :mod:`.langchain`, because a graph is run and reported by LangChain's
callbacks: ``langchain/callbacks.py`` starts and ends the spans of graphs and nodes, ``langchain/langgraph_edges.py``
turns edges into links and checkpoints into events, and ``langchain/hook.py`` has the ``SharedHook`` of both.
"""

from __future__ import annotations

from .langchain.hook import SharedHook

__all__ = ["HOOK", "autolog"]

HOOK = SharedHook("langgraph>=0.6,<2", "langgraph")
autolog = HOOK.autolog
