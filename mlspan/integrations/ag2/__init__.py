"""AG2: the classic API of 0.x (``import autogen``), and the agents of 1.x (``import ag2``), a new API."""

from __future__ import annotations

import importlib.util
from typing import Final

from ...hooks.hook import Hook
from . import agents, classic, network

__all__ = ["HOOK", "autolog"]

_CLASSIC_HOOK: Final = Hook("ag2>=0.10,<1", "autogen", classic.install)
_AGENTS_HOOK: Final = Hook("ag2>=1.2,<2", "ag2", agents.install, also=(network.HOOK,))
# Both are versions of one distribution, so only one of them is installed: HOOK is the hook of that one.
_ag2_spec: Final = importlib.util.find_spec("ag2")  # a spec without an origin is a folder that happens to be called ag2
HOOK: Final = _AGENTS_HOOK if _ag2_spec is not None and _ag2_spec.origin else _CLASSIC_HOOK
autolog = HOOK.autolog
