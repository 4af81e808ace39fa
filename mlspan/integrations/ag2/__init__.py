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
HOOK: Final = _AGENTS if importlib.util.find_spec("ag2") is not None else _CLASSIC
autolog = HOOK.autolog
