"""Refusals: what becomes of a span that its backend refuses. It stays in the spool, is set aside, or is dropped.

- It *stays in the spool* if the sink says so (``Refusal.keep``: other credentials or settings may help), or if a
  backend that has never taken anything refuses all of many items. It is tried again, see ``Sender``.
- Otherwise it is *set aside*: ``spool/dead_letters.py`` writes it to a file.
- It is *dropped* if it cannot be set aside: there is no folder, the file cannot be written, or the backend does not say
  which spans it has rejected.

What makes a whole batch fail is found by ``isolation.py`` and then refused here like the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from ...._guard import warn_once
from ..flush_result import DeliveryTally, count_reason
from ..spool.dead_letters import DeadLetters
from ..types import BackendUnavailable, EncodedSpan, Refusal, SinkKind, TraceSegment

_REFUSES_ALL: Final = 5  # items: where a backend that has never taken any refuses so many at once, it is not about them


class RefusalHandler:
    """Decides what becomes of refused items, and counts them. Not thread-safe.

    Args:
        kind: the kind of the sink.
        letters: stores items that are set aside.
        refused: counts the spans that were refused for good, by kind.
    """

    def __init__(self, kind: SinkKind, letters: DeadLetters, refused: Counter[str]) -> None:
        self._kind, self._letters, self._refused = kind, letters, refused
        self.kept = 0  # segments or spans that stay in the spool
        self.kept_reason = ""  # why
        self.suspects = 0  # those of them that fail where others pass, and that are tried again soon
        self.reasons: Counter[str] = Counter()  # number of refused spans by reason

    def settle_refusals(
        self, items: Sequence[Any], refusals: Sequence[Refusal], tally: DeliveryTally, *, has_taken: bool
    ) -> list[Any]:
        """Keep, set aside or drop what was refused of the *items* of a batch. Return the items that are kept.

        Args:
            items: the batch.
            refusals: those of the sink.
            tally: counts what is set aside and dropped.
            has_taken: whether the backend has ever taken anything.
        """
        if not has_taken and _refuses_all(items, refusals):
            refusals = [replace(refusal, keep=True) for refusal in refusals]
        for refusal in refusals:
            if refusal.keep:
                self._keep(refusal)
            else:
                self._set_aside(refusal, tally)
        return [refusal.item for refusal in refusals if refusal.keep]

    def keep_suspects(self, suspects: Sequence[Any], away: BackendUnavailable | None) -> None:
        """Keep items that fail where others pass, but not often enough yet to be refused."""
        if suspects:
            reason = away.reason if away is not None else ""
            self.suspects += len(suspects)
            self.kept += len(suspects)
            self.kept_reason = reason
            count_reason(self.reasons, reason, count_spans(suspects))
            warn_once("mlspan: %s for some items and takes others; they are tried again", reason, place=self._kind)

    def forget_kept(self) -> None:
        """Forget what was kept, as it is tried again."""
        self.kept, self.kept_reason, self.suspects = 0, "", 0

    def _keep(self, refusal: Refusal) -> None:
        """Count and log an item that stays in the spool."""
        warn_once("mlspan: %s; what it has not taken is kept", refusal.reason, place=_shorten_reason(refusal))
        count_reason(self.reasons, refusal.reason, count_refused(refusal))
        self.kept += 1
        self.kept_reason = refusal.reason

    def _set_aside(self, refusal: Refusal, tally: DeliveryTally) -> None:
        """Write an item to the dead letters, or drop it if that is not possible."""
        warn_once("mlspan: %s", refusal.reason, place=_shorten_reason(refusal))
        spans = count_refused(refusal)
        count_reason(self.reasons, refusal.reason, spans)
        self._refused[self._kind] += spans
        if refusal.item is None:
            tally.add_dropped(f"rejected: {refusal.reason}", spans)
            return
        try:
            if self._letters.write_letter(self._kind, refusal.reason, refusal.item):
                tally.add_set_aside(refusal.reason, spans)
                return
        except OSError as error:
            warn_once("mlspan: what was refused cannot be set aside: %s", error)
        tally.add_dropped(f"refused, and nowhere to set it aside: {refusal.reason}", spans)


def _refuses_all(items: Sequence[Any], refusals: Sequence[Refusal]) -> bool:
    """Return whether all of many items are refused.

    Then the cause is the form of our requests or our access, not the single items.
    """
    return len(items) >= _REFUSES_ALL and sum(refusal.item is not None for refusal in refusals) >= len(items)


def _shorten_reason(refusal: Refusal) -> str:
    """Return the reason without the server's own words, which may hold ids of requests."""
    return refusal.reason.partition(": ")[0]


def count_refused(refusal: Refusal) -> int:
    """Return the number of spans that were refused."""
    return refusal.spans if refusal.item is None else count_spans([refusal.item])


def count_spans(items: Sequence[TraceSegment | EncodedSpan]) -> int:
    """Return the number of spans in the items of a batch."""
    return sum(len(item.spans) if isinstance(item, TraceSegment) else 1 for item in items)
