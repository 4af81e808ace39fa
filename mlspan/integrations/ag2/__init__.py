"""AG2: the classic API of 0.x (``import autogen``), and the agents of 1.x (``import ag2``), another library."""

from __future__ import annotations

import importlib.util
from typing import Final

from .._hook import Hook
from . import agents, classic, network

__all__ = ["HOOK", "autolog"]

_CLASSIC: Final = Hook("ag2>=0.10,<1", "autogen", classic.install)
_AGENTS: Final = Hook("ag2>=1.2,<2", "ag2", agents.install, also=(network.HOOK,))
# Both are of one distribution, so only one is ever installed: the hook of that one speaks for the two.
_found: Final = importlib.util.find_spec("ag2")  # without an origin, a folder that happens to have the name
HOOK: Final = _AGENTS if _found is not None and _found.origin else _CLASSIC
autolog = HOOK.autolog
