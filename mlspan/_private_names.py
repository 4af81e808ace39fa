"""Private names of other libraries that a version lacks: what is lost is said once in the log, and by the doctor.

Each module that uses such names lists them as ``PRIVATE_NAMES``, with what is lost without each. A test finds the uses
in the sources and holds them against the lists, and another takes each name away.
"""

from __future__ import annotations

from typing import Final

from ._guard import warn_once

_missing: Final[dict[tuple[str, str], str]] = {}  # the line about a loss, by library and loss


def report_missing_name(library: str, name: str, lost: str) -> None:
    """Log, once for each ability that is *lost*, that this version of *library* lacks *name*."""
    if (library, lost) not in _missing:
        _missing[library, lost] = f"this version of {library} has no {name}, so {lost}"
        warn_once(f"mlspan: this version of {library} has no %s, so %s", name, lost, place=name)


def list_missing_names() -> list[str]:
    """Return a line for each ability that was found lost in this process."""
    return list(_missing.values())
