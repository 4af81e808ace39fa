"""Percentiles of any number of durations in little memory: exact up to 10,000 of them, then within half a percent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final

_MOST_EXACT: Final = 10_000
_STEP: Final = math.log(1.01)  # between two classes; the middle of a class is within half a percent of all in it
_SHORTEST: Final = 1e-6  # milliseconds: what is shorter counts as that


class Durations:
    """Durations in milliseconds, each kept by itself while they are few, then counted by classes of 1 percent."""

    def __init__(self) -> None:
        self._exact: list[float] = []
        self._counts: Counter[float] = Counter()
        self._most = _MOST_EXACT  # that are kept by themselves

    def add(self, milliseconds: float) -> None:
        """Add one duration."""
        self._exact.append(milliseconds)
        if len(self._exact) > self._most:
            self._count_exact()

    def add_all(self, milliseconds: Iterable[float]) -> None:
        """Add several durations."""
        self._exact.extend(milliseconds)
        if len(self._exact) > self._most:
            self._count_exact()

    def _count_exact(self) -> None:
        """Count the durations that are kept by themselves."""
        step = 1 / _STEP
        try:
            classes = [logarithm * step // 1 for logarithm in map(math.log, self._exact)]
        except ValueError:  # of zero or less
            classes = [math.log(max(one, _SHORTEST)) * step // 1 for one in self._exact]
        self._counts.update(classes)
        self._exact.clear()
        self._most = _MOST_EXACT // 10

    def compute_percentile(self, percent: float) -> float | None:
        """Return a percentile, of exact durations by linear interpolation as NumPy does; None without durations."""
        if not self._counts:
            self._exact.sort()  # which makes the sorting below, now and for the next percentile, a mere check
            return interpolate_percentile(self._exact, percent)
        self._count_exact()
        rank = (self._counts.total() - 1) * percent / 100
        seen = 0
        for kind in sorted(self._counts):
            seen += self._counts[kind]
            if seen > rank:
                return math.exp((kind + 0.5) * _STEP)
        return None


def interpolate_percentile(values: list[float], percent: float) -> float | None:
    """Return the percentile by linear interpolation between the closest ranks, as NumPy does; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)
