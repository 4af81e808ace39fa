"""Reader of stored traces: the part that does not depend on the store."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from . import model
from .common import CommandFailure
from .filters import Condition
from .outlines import NEED_SPANS, AlikeTraces, TraceOutline, outline_trace
from .places import StoreLocation

MAX_TRACES: Final = 1_000_000
_MAX_STORY: Final = 20  # traces


@dataclass(frozen=True)
class TraceFilter:
    """Conditions that a trace must meet. None is no condition. Times are in milliseconds since 1970."""

    run_id: str | None = None
    session: str | None = None
    status: str | None = None  # in capitals, as a trace's state
    since_ms: int | None = None  # it began then or later
    until_ms: int | None = None  # it began before
    id_prefix: str | None = None
    conditions: tuple[Condition, ...] = ()


EVERYTHING: Final = TraceFilter()


class TraceReader(ABC):
    """Reader of the traces of one store.

    Attributes:
        place: the store.
        experiments: the names by id of the requested experiment, or of all active ones.

    Raises:
        CommandFailure: from every method, if the store does not answer.
    """

    place: StoreLocation
    experiments: dict[str, str]

    @abstractmethod
    def list_experiments(self) -> dict[str, str]:
        """Return the names by id of the requested experiment, or of all active ones.

        Raises:
            CommandFailure: if the requested experiment does not exist.
        """

    @abstractmethod
    def iterate_traces(
        self, where: TraceFilter = EVERYTHING, *, limit: int = MAX_TRACES, spans: bool = False
    ) -> Iterator[model.StoredTrace]:
        """Yield at most *limit* traces that match *where*, the newest first, each once."""

    def iterate_outlines(
        self,
        where: TraceFilter = EVERYTHING,
        groups: Collection[str] = NEED_SPANS,
    ) -> Iterator[TraceOutline | AlikeTraces]:
        """Yield the outlines of the traces that match *where*, each once, in any order; some at once if they are alike.

        Args:
            where: the filter.
            groups: what is added up by, which decides what is read of a trace.
        """
        for trace in self.iterate_traces(where, spans=not NEED_SPANS.isdisjoint(groups)):
            yield outline_trace(trace)

    @abstractmethod
    def fetch_trace(self, trace_id: str) -> model.StoredTrace:
        """Return the trace with its spans."""

    @abstractmethod
    def find_resumptions(self, trace_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the ids of the traces that go on with these, by the id of the trace that waited."""

    def settle_states(self, traces: Iterable[model.StoredTrace]) -> list[model.StoredTrace]:
        """Return traces as they are now: those that have waited wait, unless another trace goes on with them."""
        found = list(traces)
        waited = [trace.id for trace in found if trace.waited and trace.state == "OK"]
        if not waited:
            return found
        resumed = self.find_resumptions(waited)
        waiting = set(waited) - resumed.keys()
        return [replace(trace, state=model.WAITING) if trace.id in waiting else trace for trace in found]

    def take_matching(
        self, pages: Iterable[Iterable[model.StoredTrace]], where: TraceFilter, limit: int
    ) -> Iterator[model.StoredTrace]:
        """Yield at most *limit* traces of *pages*, as they are now, that are in the state that *where* names."""
        for page in pages:
            for trace in self.settle_states(page):
                if where.status in {None, trace.state}:
                    yield trace
                    limit -= 1
                    if limit == 0:
                        return

    def read_story(self, trace: model.StoredTrace) -> list[model.StoredTrace]:
        """Return a trace with those that it goes on with and those that go on with it, in the order of time."""
        story = {trace.id: trace}
        asked = [trace]
        while asked and len(story) < _MAX_STORY:
            one = asked.pop()
            before = [one.resumes] if one.resumes is not None else []
            after = self.find_resumptions([one.id]).get(one.id, []) if one.waited else []
            for other in (*before, *after):
                if other in story:
                    continue
                try:
                    story[other] = self.fetch_trace(other)
                except CommandFailure:  # it was deleted, or is in another store
                    continue
                asked.append(story[other])
        return sorted(story.values(), key=lambda one: one.start_ms)

    @abstractmethod
    def search_run_id(self, name: str) -> str | None:
        """Return the id of the newest run of this name, or None."""

    @abstractmethod
    def find_run_name(self, run_id: str) -> str:
        """Return the name of a run, or its id if the run cannot be read."""

    def refresh_experiments(self) -> None:
        """Read the list of experiments again, to find new ones."""
        if self.place.experiment is None:
            self.experiments = self.list_experiments()

    def find_trace(self, text: str, where: TraceFilter = EVERYTHING) -> model.StoredTrace:
        """Return the trace whose id is *text* or begins with it; for ``last``, the newest trace that matches *where*.

        Raises:
            CommandFailure: if there is no such trace, or more than one.
        """
        if text == "last":
            newest = next(self.iterate_traces(where, limit=1), None)
            if newest is None:
                what = "there are no traces" if where == EVERYTHING else "no trace matches"
                raise CommandFailure(f"{what} in {self.display_place}")
            return self.fetch_trace(newest.id)
        digits = text.lower().removeprefix("tr-")
        if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
            raise CommandFailure(f"{text!r} is no trace id: give hexadecimal digits (the first few will do), or: last")
        if len(digits) == 32:
            return self.fetch_trace(f"tr-{digits}")
        found = list(self.iterate_traces(replace(EVERYTHING, id_prefix=f"tr-{digits}"), limit=6))
        if not found:
            raise CommandFailure(
                f"no trace in {self.display_place} begins with {digits}; mlspan list shows what there is"
            )
        if len(found) > 1:
            ids = ", ".join(trace.id.removeprefix("tr-")[: max(12, len(digits) + 4)] for trace in found[:5])
            raise CommandFailure(
                f"several traces begin with {digits}: {ids}{' ...' if len(found) > 5 else ''}; give more of it"
            )
        return self.fetch_trace(found[0].id)

    def find_run_id(self, name_or_id: str) -> str:
        """Return the id of the run with this id or name. If several runs have the name, it is the newest.

        Raises:
            CommandFailure: if there is no run of this name.
        """
        if re.fullmatch(r"[0-9a-f]{32}", name_or_id):
            return name_or_id
        if (found := self.search_run_id(name_or_id)) is None:
            raise CommandFailure(f"there is no run {name_or_id!r} in {self.display_place}")
        return found

    @property
    def display_place(self) -> str:
        """Return the description of the store and experiment for messages."""
        experiment = self.place.experiment
        return (
            self.place.display_uri
            if experiment is None
            else f"the experiment {experiment!r} of {self.place.display_uri}"
        )

    def make_unknown_experiment(self, known: list[str]) -> CommandFailure:
        """Return the failure for a requested experiment that does not exist; *known* are some that do."""
        names = ", ".join(map(repr, known))
        return CommandFailure(
            f"there is no experiment {self.place.experiment!r} in {self.place.display_uri}; there are: {names}"
        )
