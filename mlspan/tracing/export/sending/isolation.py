"""Isolation: it finds the items that make a backend fail, wherever they are among others, with bounded requests.

A server that answers 500 is either away or cannot process one of the items, a *poison item*. Single items tell: as soon
as one passes, the backend is there, and halves of the rest are sent until the items that fail alone are found. One that
has failed alone several times, while others passed before and after it, is refused. All others are left as they are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..types import BackendUnavailable, Refusal

_PROBES: Final = 4  # single items that are sent to learn whether the backend takes any
_MAX_REQUESTS: Final = 192  # in one search; what is left then is sent by the next one
_MAX_CONFIRMED: Final = 32  # items that are refused by one search
_FAILURES_ALONE: Final = 3  # failures of one item, sent alone, after which it is refused
_CONFIRM_PAUSE: Final = 0.2  # seconds before an item that has failed alone is sent again
_MAX_FAILURES_IN_A_ROW: Final = 16  # after which the backend may have become unavailable: single items are tried again


@dataclass(slots=True)
class IsolationResult:
    """The outcome of an isolation: which items were taken or refused, and which are suspects."""

    taken: list[Any] = field(default_factory=list)  # items that the backend has answered for, refused ones included
    refused: list[Refusal] = field(default_factory=list)  # by the backend's answer, or as poison
    suspects: list[Any] = field(default_factory=list)  # items that fail alone, too rarely yet to be refused
    away: BackendUnavailable | None = None  # the last failure

    @property
    def is_available(self) -> bool:
        """Return True if the backend has taken any item."""
        return bool(self.taken)


class Isolation:
    """One search for poison items among *items*, which are sent by *send* as by ``Sink.send``.

    *takes_nothing*: *send* makes a request for no items too, which an available backend answers.
    """

    def __init__(
        self,
        items: Sequence[Any],
        send: Callable[[Sequence[Any]], Sequence[Refusal]],
        *,
        takes_nothing: bool = False,
    ) -> None:
        self._send, self._takes_nothing = send, takes_nothing
        self._rest = list(items)  # items that were not sent alone, nor taken
        self._failed: dict[int, tuple[Any, BackendUnavailable]] = {}  # by id: items that have failed alone
        self._requests = self._failures = 0  # in all; in a row
        self._result = IsolationResult()

    def run(self) -> IsolationResult:
        """Send the items and return what has become of them. Nothing is refused if the backend takes nothing."""
        result = self._result
        if self._probe():
            self._bisect(random.sample(self._rest, min(_PROBES, len(self._rest) // 2)))
            self._refuse_confirmed()
            self._bisect([])
            self._refuse_confirmed()
        result.suspects = [item for item, _ in self._failed.values()]
        return result

    def _try(self, items: Sequence[Any]) -> bool:
        """Send *items*; return whether the backend has taken them. A single one that fails is noted."""
        self._requests += 1
        try:
            refused = self._send(items)
        except BackendUnavailable as away:
            self._failures += 1
            self._result.away = away
            self._settle(list(away.taken), [])
            if len(items) == 1:
                self._failed[id(items[0])] = items[0], away
                self._drop_from_rest(items)
            return False
        self._failures = 0
        self._settle(items, refused)
        return True

    def _settle(self, taken: Sequence[Any], refused: Sequence[Refusal]) -> None:
        self._result.taken += taken
        self._result.refused += refused
        self._drop_from_rest(taken)
        for item in taken:
            self._failed.pop(id(item), None)

    def _drop_from_rest(self, items: Sequence[Any]) -> None:
        gone = set(map(id, items))
        self._rest = [item for item in self._rest if id(item) not in gone]

    def _probe(self) -> bool:
        """Send single items until one passes; return False if none of some has."""
        for _ in range(_PROBES):
            if not self._rest:
                return False
            if self._try([random.choice(self._rest)]):  # noqa: S311  # needs no secure randomness
                return True
        return False

    def _bisect(self, held_back: Sequence[Any]) -> None:
        """Send what is left, in halves that get smaller, until what fails is alone.

        The items *held_back* are for a later question whether the backend still takes any.
        """
        waiting = [[item for item in self._rest if not any(item is one for one in held_back)]]
        while waiting and self._requests < _MAX_REQUESTS:
            if self._failures >= _MAX_FAILURES_IN_A_ROW and not self._probe():
                return  # it is away again
            still = set(map(id, self._rest))
            part = [item for item in waiting.pop() if id(item) in still]
            if part and not self._try(part) and len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]

    def _passes_again(self) -> bool:
        """Send nothing, or else an item that has passed: no other is left to learn from if the backend takes any."""
        if self._rest or not self._result.taken:
            return False
        return self._try([] if self._takes_nothing else [self._result.taken.pop(0)])

    def _refuse_confirmed(self) -> None:
        """Send items that have failed alone again, and refuse them if they still fail while another passes."""
        suspects = list(self._failed.values())[:_MAX_CONFIRMED]
        for _ in range(_FAILURES_ALONE - 1 if suspects else 0):
            time.sleep(_CONFIRM_PAUSE)
            for item, _ in suspects:
                if id(item) in self._failed:
                    self._try([item])
        if not suspects or not (self._probe() or self._passes_again()):
            return
        for item, _ in suspects:
            if (found := self._failed.pop(id(item), None)) is not None:
                self._result.refused.append(Refusal(item, found[1].reason))
                self._result.taken.append(item)
