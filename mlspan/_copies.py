"""One copy of mlspan at a time: a program that takes it out of ``sys.modules`` and imports it again has two.

The copy that is turned on last records. It has the copy before take back its patches, which would record each call a
second time. What that copy has recorded, it still sends.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from ._guard import guard, log

_MARK: Final = "mlspan_retire"  # on our logger, which outlives our modules: what retires the copy that records
_retirements: dict[Hashable, Callable[[], object]] = {}


def take_over_recording() -> None:
    """Make this copy the one that records, and have the copy that has recorded so far take its patches back."""
    retire_other: Any = vars(log).get(_MARK)
    if retire_other is _retire:
        return
    vars(log)[_MARK] = _retire
    if retire_other is not None:
        with guard("taking over from an earlier copy of mlspan"):
            retire_other()


def call_at_retirement(key: Hashable, callback: Callable[[], object]) -> None:
    """Have *callback* called when another copy takes over; it replaces the one that had the same *key*."""
    _retirements[key] = callback


def _retire() -> None:
    """Call what was registered last first, as each may rest on what came before."""
    while _retirements:
        _, callback = _retirements.popitem()
        with guard("making way for another copy of mlspan"):
            callback()
