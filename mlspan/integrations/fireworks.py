"""Fireworks' Python client, read as OpenAI's is. :mod:`.openai.clients` says how, and what another one needs."""

from __future__ import annotations

from .openai.clients import make_hook

__all__ = ["HOOK", "autolog"]

HOOK = make_hook("fireworks")
autolog = HOOK.autolog
