"""The session of pytest that runs: what its command line asks, for the parts that work without pytest as well."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Recording = Literal["none", "missing", "all"]


@dataclass
class RunningSession:
    """A session of pytest.

    Attributes:
        root: the folder that node ids are relative to.
        update_golden: whether golden trees are written instead of compared.
        record_answers: what is recorded of model answers.
        reported: how many tests the report lists; None without a report.
        files_written: the golden trees and recordings that this process has written since its last report of a test.
    """

    root: Path
    update_golden: bool = False
    record_answers: Recording = "none"
    reported: int | None = None
    files_written: list[str] = field(default_factory=list)

    def shorten(self, path: Path) -> str:
        """Return *path* as the session prints it."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


_sessions: list[RunningSession] = []  # one may run inside a test of another


def begin_session(session: RunningSession) -> None:
    """Make *session* the one that runs."""
    _sessions.append(session)


def end_session(session: RunningSession) -> None:
    """Go back to the session around *session*."""
    if session in _sessions:
        _sessions.remove(session)


def find_running_session() -> RunningSession | None:
    """Return the session that runs; None without pytest, or without the plugin."""
    return _sessions[-1] if _sessions else None


def note_written(path: Path) -> None:
    """Have the session name, at its end, a file that was written."""
    if (session := find_running_session()) is not None:
        session.files_written.append(session.shorten(path))
