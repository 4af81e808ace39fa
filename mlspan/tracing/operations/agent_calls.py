"""Running sums of the calls to models inside of an agent's turn, of the same size however many calls there are."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from ..._shape import MOST_COUNTED, read_count

_MOST_MODELS = 2  # that are kept: an agent's span names its model only if there is one


class CallSums(NamedTuple):
    """The facts of one or more calls to models: which models, why the last call ended, and tokens."""

    models: tuple[str | None, ...]
    finish_reasons: list[str] | None
    input_tokens: int | None
    output_tokens: int | None

    @classmethod
    def from_call(
        cls, model: object, finish_reasons: list[str] | None, input_tokens: object, output_tokens: object
    ) -> CallSums:
        """Return the facts of one call; what is of a wrong type, as users may have set it, counts as unknown."""
        known = model if isinstance(model, str) else None
        return cls((known,), finish_reasons, read_count(input_tokens), read_count(output_tokens))

    def add_later(self, later: CallSums) -> CallSums:
        """Return the sums of these calls and of *later* ones."""
        models = self.models
        if models != later.models:
            models = (*models, *(model for model in later.models if model not in models))[:_MOST_MODELS]
        return CallSums(
            models,
            later.finish_reasons,
            _add_counts(self.input_tokens, later.input_tokens),
            _add_counts(self.output_tokens, later.output_tokens),
        )


class AgentCalls:
    """Running sums of the calls of an agent's turn and of those of agents below it.

    No lock is taken, as calls end in finalizers too. Whoever adds takes the sums out and puts larger ones in; threads
    that add at the same time leave several, which become one when they are read.
    """

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: deque[CallSums] = deque()

    def add_sums(self, sums: CallSums) -> None:
        """Add the facts of one call or more that have ended."""
        try:
            before = self._sums.pop()
        except IndexError:
            self._sums.append(sums)
        else:
            self._sums.append(before.add_later(sums))

    def read_sums(self) -> CallSums | None:
        """Return the sums of all calls; None if there were none."""
        total: CallSums | None = None
        for _ in range(len(self._sums)):
            try:
                part = self._sums.popleft()
            except IndexError:  # another thread adds to it
                break
            total = part if total is None else total.add_later(part)
        if total is not None:
            self._sums.append(total)
        return total


def _add_counts(some: int | None, more: int | None) -> int | None:
    return more if some is None else some if more is None else min(some + more, MOST_COUNTED)
