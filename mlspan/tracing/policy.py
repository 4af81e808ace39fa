r"""The policy of whoever runs the machine: settings that programs start from, and those that none of them can loosen.

Read from ``/etc/mlspan/policy.toml`` (``%PROGRAMDATA%\mlspan`` on Windows), then
``$XDG_CONFIG_HOME/mlspan/policy.toml`` (``~/.config``), then the file that ``MLSPAN_POLICY`` names. A later file
changes what an earlier one has not locked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from .._guard import tell_once

SYSTEM: Final = (
    Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData"), "mlspan", "policy.toml")
    if os.name == "nt"
    else Path("/etc/mlspan/policy.toml")
)
_TABLES: Final = {"settings": dict, "locked": list, "autolog": dict}


@dataclass(frozen=True)
class Policy:
    """All files, put together. *settings* maps a name to its value and the file that says so."""

    settings: Mapping[str, tuple[Any, Path]] = field(default_factory=dict)
    locked: Mapping[str, Path] = field(default_factory=dict)
    off: Mapping[str, Path] = field(default_factory=dict)  # integrations that stay off; "*": all
    files: tuple[Path, ...] = ()
    wrong: tuple[str, ...] = ()  # a line for each file that cannot be read

    def turned_off(self, integration: str | None) -> Path | None:
        """The file that keeps *integration* off."""
        return self.off.get("*") or self.off.get(integration or "*")


def current() -> Policy:
    """The policy of this process. A file is read once; one that is broken is said once."""
    policy = _read(paths())
    for line in policy.wrong:
        tell_once("mlspan: %s", line)
    return policy


def paths() -> tuple[Path, ...]:
    """Where files may stand, the first counting most where it locks."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    named = os.environ.get("MLSPAN_POLICY")
    return (SYSTEM, config / "mlspan" / "policy.toml", *([Path(named)] if named else []))


@cache
def _read(files: tuple[Path, ...]) -> Policy:
    settings: dict[str, tuple[Any, Path]] = {}
    locked: dict[str, Path] = {}
    off: dict[str, Path] = {}
    found: list[Path] = []
    wrong: list[str] = []
    for file in files:
        try:
            said = _parsed(file)
        except FileNotFoundError:
            if file != files[-1] or not os.environ.get("MLSPAN_POLICY"):
                continue
            said = _broken(wrong, file, "there is no such file")
        except (OSError, ValueError) as error:
            said = _broken(wrong, file, str(error))
        found.append(file)
        for name, value in said.get("settings", {}).items():
            if name not in locked:
                settings[name] = (value, file)
        for name in said.get("locked", []):
            locked.setdefault(name, file)
        for name in _off(said.get("autolog", {})):
            off.setdefault(name, file)
    return Policy(settings, locked, off, tuple(found), tuple(wrong))


def _broken(wrong: list[str], file: Path, why: str) -> dict[str, Any]:
    """What a file may have locked is not known: nothing of what is said is recorded until it is mended."""
    wrong.append(f"the policy {file} cannot be read, so no content is recorded: {why.splitlines()[0]}")
    return {"settings": {"capture_content": False}, "locked": ["capture_content"]}


def _parsed(file: Path) -> dict[str, Any]:
    """Raises OSError, or ValueError with what is wrong with the file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    said: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    for name, value in said.items():
        if not isinstance(value, _TABLES.get(name, ())):
            raise ValueError(  # noqa: TRY004  # the file is wrong, not the program
                f"{name!r} is none of [settings], locked = [...] and [autolog]"
            )
    from .config import check

    settings = said.get("settings", {})
    check(settings)
    if missing := [name for name in said.get("locked", []) if name not in settings]:
        raise ValueError(f"locked, yet without a value in [settings]: {', '.join(map(str, missing))}")
    _off(said.get("autolog", {}))
    return said


def _off(autolog: Mapping[str, Any]) -> list[str]:
    """The integrations that are named as off; ``*`` for all."""
    if not all(isinstance(on, bool) for on in autolog.values()):
        raise ValueError("[autolog] takes enabled = true or false, and the same for an integration's name")
    return ["*" if name == "enabled" else name for name, on in autolog.items() if not on]
