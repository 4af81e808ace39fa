"""LlamaIndex 0.14: queries, indexes, models, tools, agents and workflows."""

from __future__ import annotations

from ...hooks.hook import Hook
from .handlers import install

__all__ = ["HOOK", "autolog"]

HOOK = Hook("llama-index-core>=0.14,<0.15", "llama_index.core", install)
autolog = HOOK.autolog
