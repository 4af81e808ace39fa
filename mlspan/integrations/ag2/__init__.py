"""AG2: the classic API of 0.x (``import autogen``), and the agents of 1.x (``import ag2``), a new API."""

from __future__ import annotations

import importlib.util
from typing import Final

from ...hooks.hook import Hook
from . import agents, classic, network

__all__ = ["HOOK", "autolog"]

_CLASSIC: Final = Hook("ag2>=0.10,<1", "autogen", classic.install)
_AGENTS: Final = Hook("ag2>=1.2,<2", "ag2", agents.install, also=(network.HOOK,))
# Both are versions of one distribution, so only one of them is installed: HOOK is the hook of that one.
_found: Final = importlib.util.find_spec("ag2")  # a spec without an origin is a folder that happens to be called ag2
HOOK: Final = _AGENTS if _found is not None and _found.origin else _CLASSIC
autolog = HOOK.autolog
