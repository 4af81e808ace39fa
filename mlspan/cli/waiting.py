"""The part of ``mlspan doctor`` on the spans that wait on disk and on those that were set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..tracing.export.spool.dead_letters import read_dead_letters
from ..tracing.export.spool.limits import SpoolSettings
from ..tracing.export.spool.survey import WaitingSpans, find_folder_fault, survey_folder
from . import form
from .places import EffectiveSetting, find_spool_folder


@dataclass(frozen=True)
class SpoolStatus:
    """The contents of the folder of unsent spans."""

    folder: str
    waiting: list[WaitingSpans]
    set_aside: dict[str, int]  # traces or spans that were refused, by the kind of destination and the reason
    fault: str | None = None  # why nothing can be kept there, and what to do


def read_spool_status(found: Mapping[str, EffectiveSetting]) -> SpoolStatus | None:
    """Return what lies in the folder that the settings name; None if there is no such folder."""
    folder = find_spool_folder(found)
    if folder is None:
        return None
    if found["durability"].value != "none" and (fault := find_folder_fault(folder)) is not None:
        line = (
            f"spans cannot be kept on disk until they are sent: {fault}; set MLSPAN_SPOOL_DIR to a folder that is yours"
        )
        return SpoolStatus(str(folder), [], {}, line)
    dead_letters = read_dead_letters(SpoolSettings(folder=folder))
    set_aside = Counter(f"{letter.sink}: {form.join_lines(letter.reason)}" for letter in dead_letters)
    return SpoolStatus(str(folder), survey_folder(folder), dict(set_aside))


def format_spool_status(status: SpoolStatus) -> Iterator[str]:
    """Yield one line for each destination that something waits for, and for each reason why something was set aside."""
    for destination, files in _group_by_destination(status.waiting).items():
        spans, oldest = sum(one.spans or 0 for one in files), min(one.since for one in files if one.since is not None)
        yield (
            f"{form.format_quantity(spans, 'span')} for {destination}, since {form.format_short_time(oldest * 1000)}: "
            "mlspan drain sends them, and so does the next program that sends there"
        )
    for state, what in (
        ("in use", "of running programs, which send what they hold"),
        ("damaged", "that cannot be read"),
    ):
        paths = [one.path for one in status.waiting if one.state == state]
        if paths:
            names = ", ".join(path.name for path in paths[:5])
            yield f"{form.format_quantity(len(paths), 'file')} {what}: {names}{', ...' * (len(paths) > 5)}"
    for reason, count in status.set_aside.items():
        yield f"{count} set aside for {reason}: mlspan show --dead has them"


def summarize_spool_status(status: SpoolStatus) -> str:
    """Return how many spans wait to be sent and were set aside, and what to do; empty if there are none."""
    spans, refused = sum(one.spans or 0 for one in status.waiting), sum(status.set_aside.values())
    damaged = sum(one.state == "damaged" for one in status.waiting)
    says = []
    if spans:
        says.append(f"{form.format_quantity(spans, 'span')} {'waits' if spans == 1 else 'wait'}: mlspan drain")
    if refused:
        says.append(f"{refused} {'was' if refused == 1 else 'were'} set aside: mlspan show --dead")
    if damaged:
        says.append(
            f"{form.format_quantity(damaged, 'file')} cannot be read: its spans are not sent; delete it"
            if damaged == 1
            else f"{damaged} files cannot be read: their spans are not sent; delete them"
        )
    return "; ".join(says)


def _group_by_destination(waiting: list[WaitingSpans]) -> dict[str, list[WaitingSpans]]:
    groups: dict[str, list[WaitingSpans]] = {}
    for one in waiting:
        if one.destination is not None:
            groups.setdefault(one.destination, []).append(one)
    return groups


def status_to_json(status: SpoolStatus | None) -> dict[str, object] | None:
    """Return the status as ``--json`` prints it."""
    if status is None:
        return None
    waiting = [
        {
            "destination": one.destination,
            "spans": one.spans,
            "since": one.since,
            "state": one.state,
            "path": str(one.path),
        }
        for one in status.waiting
    ]
    return {"folder": status.folder, "waiting": waiting, "set_aside": status.set_aside}
