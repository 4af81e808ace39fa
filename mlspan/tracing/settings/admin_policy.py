r"""The administrator's policy: settings that programs start from, and settings that no program can loosen.

It is read from ``/etc/mlspan/policy.toml`` (``%PROGRAMDATA%\mlspan`` on Windows), then
``$XDG_CONFIG_HOME/mlspan/policy.toml`` (``~/.config``), then the file that ``MLSPAN_POLICY`` names. A later file
changes only what an earlier one has not locked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from ..._guard import warn_once
from .config import check_settings

SYSTEM: Final = (
    Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData"), "mlspan", "policy.toml")
    if os.name == "nt"
    else Path("/etc/mlspan/policy.toml")
)
_TABLES: Final = {"settings": dict, "locked": list, "autolog": dict}


@dataclass(frozen=True)
class AdminPolicy:
    """All policy files merged. *settings* maps a name to its value and the file that sets it."""

    settings: Mapping[str, tuple[object, Path]] = field(default_factory=dict)
    locked: Mapping[str, Path] = field(default_factory=dict)
    disabled: Mapping[str, Path] = field(default_factory=dict)  # integrations that are turned off; "*": all
    files: tuple[Path, ...] = ()
    errors: tuple[str, ...] = ()  # a message for each file that cannot be read

    def find_disabling_file(self, integration: str | None) -> Path | None:
        """Return the file that turns *integration* off, or None."""
        return self.disabled.get("*") or self.disabled.get(integration or "*")


def load_policy() -> AdminPolicy:
    """Return the policy of this process. Each file is read once, and a broken file is reported once."""
    policy = _read_files(list_policy_files())
    for line in policy.errors:
        warn_once("mlspan: %s", line, place=line)
    return policy


def list_policy_files() -> tuple[Path, ...]:
    """Return the files that may hold a policy; the locks of an earlier file override a later one."""
    environment = (os.environ.get(name) for name in ("XDG_CONFIG_HOME", "HOME", "MLSPAN_POLICY"))
    return _make_paths(SYSTEM, *environment)


@cache  # the autolog for all integrations asks for each of them
def _make_paths(system: Path, config: str | None, _home: str | None, own_file: str | None) -> tuple[Path, ...]:
    folder = Path(config or Path.home() / ".config")
    return (system, folder / "mlspan" / "policy.toml", *([Path(own_file)] if own_file else []))


@cache
def _read_files(files: tuple[Path, ...]) -> AdminPolicy:
    """Read and merge *files*."""
    settings: dict[str, tuple[object, Path]] = {}
    locked: dict[str, Path] = {}
    off: dict[str, Path] = {}
    read: list[Path] = []
    wrong: list[str] = []
    for file in files:
        try:
            contents = _parse_file(file)
        except FileNotFoundError:
            if file != files[-1] or not os.environ.get("MLSPAN_POLICY"):
                continue
            contents = _lock_content_off(wrong, file, "there is no such file")
        except (OSError, ValueError) as error:
            contents = _lock_content_off(wrong, file, str(error))
        read.append(file)
        for name, value in contents.get("settings", {}).items():
            if name not in locked:
                settings[name] = (value, file)
        for name in contents.get("locked", []):
            locked.setdefault(name, file)
        for name in _list_disabled(contents.get("autolog", {})):
            off.setdefault(name, file)
    return AdminPolicy(settings, locked, off, tuple(read), tuple(wrong))


def _lock_content_off(wrong: list[str], file: Path, reason: str) -> dict[str, Any]:
    """Report a broken file, and return the contents that replace it: no content is recorded until the file is repaired.

    The file may have locked anything, so the strictest assumption is made.
    """
    wrong.append(f"the policy {file} cannot be read, so no content is recorded: {reason.splitlines()[0]}")
    return {"settings": {"capture_content": False}, "locked": ["capture_content"]}


def _parse_file(file: Path) -> dict[str, Any]:
    """Return the contents of a policy file.

    Raises:
        OSError: the file cannot be read.
        ValueError: its contents are wrong; the text says what.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    contents: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    for name, value in contents.items():
        if not isinstance(value, _TABLES.get(name, ())):
            raise ValueError(  # noqa: TRY004  # the file is wrong, not a type in the program
                f"{name!r} is none of [settings], locked = [...] and [autolog]"
            )
    settings = contents.get("settings", {})
    check_settings(settings)
    if missing := [name for name in contents.get("locked", []) if name not in settings]:
        raise ValueError(f"locked, yet without a value in [settings]: {', '.join(map(str, missing))}")
    _list_disabled(contents.get("autolog", {}))
    return contents


def _list_disabled(autolog: Mapping[str, object]) -> list[str]:
    """Return the integrations that the table turns off; ``*`` stands for all."""
    if not all(isinstance(on, bool) for on in autolog.values()):
        raise ValueError("[autolog] takes enabled = true or false, and the same for an integration's name")
    return ["*" if name == "enabled" else name for name, on in autolog.items() if not on]
