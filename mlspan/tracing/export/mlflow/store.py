"""Stores of traces: the protocol of servers and databases, their errors, and which one a tracking URI means."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ..sending.request_size import RequestLimit
from ..types import BackendUnavailable

if TYPE_CHECKING:
    from ..sending.executor import BoundedExecutor
    from .assessments import Assessment
    from .span_totals import SpanTotals
    from .traces import TraceSummary, TranslatedTrace


class StoreRejected(Exception):  # noqa: N818  # an answer, not an error in the program
    """The store refuses what it was given.

    *all_of_it*: it would refuse everything else with the same destination too. *too_large*: it might take the same in
    smaller requests.
    """

    def __init__(self, reason: str, *, all_of_it: bool = False, too_large: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.all_of_it, self.too_large = reason, all_of_it, too_large


class StoreDenied(BackendUnavailable):
    """The store does not permit the request. It may do so later, when somebody changes a permission or its settings."""


class TraceStore(Protocol):
    """A tracking server or a database. Every method may raise BackendUnavailable or StoreRejected.

    One write takes at most *most_traces* traces and about *most_spans* spans, of as many bytes as *request_limit* says;
    *most_writers* writes of a batch run at once, on the threads of *executor*.
    """

    most_traces: int
    most_spans: int
    most_writers: int
    request_limit: RequestLimit
    executor: BoundedExecutor

    def find_experiment_of_run(self, run_id: str) -> str | None:
        """Return the id of the run's experiment; None if there is no such run."""
        ...

    def find_experiments_of_runs(self, run_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the ids of runs' experiments, as far as one request tells them; a server is asked for each run."""
        ...

    def has_experiment(self, name: str) -> bool:
        """Return whether there is an experiment of this name, be it a deleted one."""
        ...

    def find_or_create_experiment(self, name: str) -> str:
        """Return the id of the experiment of this name. A missing one is created."""
        ...

    def check_experiment(self, experiment_id: str) -> None:
        """Raise StoreRejected if the experiment does not exist or is deleted."""
        ...

    def accepts_attachments(self, experiment_id: str) -> bool:
        """Return True if attachments of traces (pictures, sounds) can be stored in this experiment."""
        ...

    def read_trace_summary(self, trace_id: str) -> TraceSummary | None:
        """Return what the store knows of a trace; None if it does not have it."""
        ...

    def read_span_totals(self, trace_id: str) -> dict[int, SpanTotals]:
        """Return tokens and cost of the spans that are stored of a trace, by span id."""
        ...

    def attach_spans(self, experiment_id: str, trace_id: str, parents: Mapping[int, int]) -> None:
        """Give spans that are stored as roots a parent; *parents* holds its id by the id of the span."""
        ...

    def write_traces(self, experiment_id: str, traces: Sequence[TranslatedTrace]) -> None:
        """Store all traces. Writing a trace again replaces it."""
        ...

    def delete_trace(self, experiment_id: str, trace_id: str) -> None:
        """Remove a trace and all that is stored of it."""
        ...

    def write_assessments(self, trace_id: str, assessments: Sequence[Assessment]) -> None:
        """Store those assessments that are new. Raise StoreRejected if there is no such trace."""
        ...

    def close(self) -> None: ...


NO_LIMIT: Final = RequestLimit(sys.maxsize)  # of a store that is not sent requests
MAX_WRITERS: Final = 4  # requests with spans to a tracking server at once: as many as its workers by default
MAX_CONNECTIONS: Final = 10  # connections to a tracking server, for many small requests: as many as MLflow's client has
