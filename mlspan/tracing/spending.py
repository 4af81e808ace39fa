"""The cost of this process's calls to models so far, :func:`spend`, and a call at a limit, :func:`on_cost`.

Prices, sessions and users are known when a call ends, so neither asks a server. Counting begins when one of the two is
called for the first time; a program that calls neither pays nothing.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Final, Literal, NamedTuple, overload

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from .._bounded import BoundedDict
from .._guard import guard
from .._patching import Undo, install_until_shutdown
from .._shape import get_count
from .export.counted_calls import MODEL_OPERATIONS
from .mlflow_state.runs import get_active_run_id
from .operations import semconv as sc
from .operations.sessions import name_session
from .runtime import add_listener

SpendKey = Literal["session", "user", "run", "model"]
SessionId = str | Sequence[str] | None

_MOST_CALLS: Final = 100_000  # that are known one by one; older ones are known by session, user, run and model
_MOST_GROUPS: Final = 10_000
_NS_PER_SECOND: Final = 1_000_000_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class Spend:
    """The cost of calls to models together.

    Attributes:
        cost: US dollars; a call whose price is unknown adds nothing.
        calls: the number of calls.
        unpriced_calls: how many of them have tokens and no known price.
        input_tokens: those read from and written to a cache included.
        output_tokens: reasoning included.
    """

    cost: float = 0.0
    calls: int = 0
    unpriced_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            self.cost + other.cost,
            self.calls + other.calls,
            self.unpriced_calls + other.unpriced_calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )


_NOTHING: Final = Spend()
Attributes = Mapping[str, Any]


class _Labels(NamedTuple):
    """The labels that a call is counted under."""

    session: str | None
    user: str | None
    run: str | None
    model: str | None


class _Call(NamedTuple):
    ended: float  # seconds since the epoch
    labels: _Labels
    spend: Spend


class _Limit:
    """A limit, and what has been spent of it: in all, or for each value of a label."""

    def __init__(
        self, limit: float, call: Callable[[Spend], object], each: SpendKey | None, wanted: dict[str, str]
    ) -> None:
        self.limit, self.call, self._each, self._wanted = limit, call, each, wanted
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what has been spent."""
        self._spent: BoundedDict[str | None, Spend] = BoundedDict(_MOST_GROUPS)

    def add_call(self, labels: _Labels, spend: Spend) -> Spend | None:
        """Count a call. Return what has been spent if that has just reached the limit."""
        key = None if self._each is None else getattr(labels, self._each)
        if (self._each is not None and key is None) or not _matches(labels, self._wanted):
            return None
        before = self._spent.get(key, _NOTHING)
        after = self._spent[key] = before + spend
        return after if before.cost < self.limit <= after.cost else None


class _Ledger(SpanProcessor):
    """Counts the calls to models whose spans end.

    A span may end in a finalizer, in the middle of this very code: it only puts a call on a queue, and whoever gets the
    lock counts what is there.
    """

    def __init__(self) -> None:
        self.limits: list[_Limit] = []
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all calls, and whoever was counting."""
        self._lock = Lock()
        self._ended: SimpleQueue[_Call] = SimpleQueue()
        self._calls: deque[_Call] = deque()
        self._older: BoundedDict[_Labels, Spend] = BoundedDict(_MOST_GROUPS)
        self._runs: BoundedDict[int, str] = BoundedDict(_MOST_GROUPS)  # of calls that are open, by span id
        self._counted_below: BoundedDict[int, bool] = BoundedDict(_MOST_GROUPS)  # open spans above a counted call
        for limit in self.limits:
            limit.begin_anew()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002  # the SDK's signature
        """Note the MLflow run that is active."""
        if (run_id := get_active_run_id()) is not None and (ids := span.get_span_context()) is not None:
            self._runs[ids.span_id] = run_id

    def on_end(self, span: ReadableSpan) -> None:
        """Count the call of an ended span, if it is one to a model."""
        with guard("counting what a call has cost"):
            ids, attributes = span.get_span_context(), span.attributes or {}
            run_id = self._runs.pop(ids.span_id, None) if ids is not None else None
            if ids is None:
                return
            below = self._counted_below.pop(ids.span_id, False)  # a client's span of the same call has ended before
            spend = None if below else _read_spend(attributes)
            if (below or spend is not None) and span.parent is not None:
                self._counted_below[span.parent.span_id] = True
            if spend is None:
                return
            self._ended.put(_Call((span.end_time or 0) / _NS_PER_SECOND, _read_labels(attributes, run_id), spend))
            self._count_ended()

    def _count_ended(self) -> None:
        """Count what is on the queue, and call whom a limit says."""
        reached: list[tuple[_Limit, Spend]] = []
        while not self._ended.empty() and self._lock.acquire(blocking=False):
            try:
                self._take_ended(reached)
            finally:
                self._lock.release()
        _call_limits(reached)

    def _take_ended(self, reached: list[tuple[_Limit, Spend]]) -> None:
        while True:
            try:
                ended = self._ended.get_nowait()
            except Empty:
                return
            self._calls.append(ended)
            if len(self._calls) > _MOST_CALLS:
                oldest = self._calls.popleft()
                self._older[oldest.labels] = self._older.get(oldest.labels, _NOTHING) + oldest.spend
            spent = ((limit, limit.add_call(ended.labels, ended.spend)) for limit in self.limits)
            reached.extend((limit, at) for limit, at in spent if at is not None)

    def list_calls(self, since: float) -> list[tuple[_Labels, Spend]]:
        """Return the calls that have ended since then, each with its labels."""
        reached: list[tuple[_Limit, Spend]] = []
        with self._lock:
            self._take_ended(reached)  # here, as another thread may just have found nothing there, and left off
            found = [(call.labels, call.spend) for call in self._calls if call.ended >= since]
            whole = not self._calls or self._calls[0].ended >= since
            found = [*self._older.items(), *found] if whole else found
        _call_limits(reached)
        return found


def _call_limits(reached: Iterable[tuple[_Limit, Spend]]) -> None:
    """Call whom each limit says."""
    for limit, spent in reached:
        with guard("calling whom on_cost was given"):
            limit.call(spent)


def _read_spend(attributes: Attributes) -> Spend | None:
    """Return what a call to a model has cost; None if these are no attributes of one with tokens or a cost."""
    from .export.cost import compute_span_cost

    if attributes.get(sc.OPERATION) not in MODEL_OPERATIONS or sc.COUNTED_BY in attributes:
        return None
    given, made = get_count(attributes, sc.USAGE_INPUT_TOKENS), get_count(attributes, sc.USAGE_OUTPUT_TOKENS)
    cost = compute_span_cost(attributes)
    if given is None and made is None and cost is None:
        return None
    return Spend(0.0 if cost is None else cost["total_cost"], 1, int(cost is None), given or 0, made or 0)


def _read_labels(attributes: Attributes, run_id: str | None) -> _Labels:
    session = name_session(attributes.get(sc.SESSION_ID) or attributes.get(sc.CONVERSATION_ID))
    model = attributes.get(sc.RESPONSE_MODEL) or attributes.get(sc.REQUEST_MODEL)
    return _Labels(session, attributes.get(sc.USER_ID), run_id, model)


def _matches(labels: _Labels, wanted: dict[str, str]) -> bool:
    return all(getattr(labels, name) == value for name, value in wanted.items())


_ledgers: list[_Ledger] = []  # one, while calls are counted
_ledgers_lock = Lock()


def _get_ledger() -> _Ledger:
    """Return what counts, which begins now if it has not before; a shutdown ends it."""
    from .export import cost  # noqa: F401  # here, rather than as the first call ends

    install_until_shutdown("spending", _start_counting)
    return _ledgers[-1]


def _start_counting() -> Undo:
    ledger = _Ledger()
    remove = add_listener(ledger)
    with _ledgers_lock:
        _ledgers[:] = [ledger]
    return remove


def _begin_anew_after_fork() -> None:
    """Count from zero in a forked child. A thread of the parent may have held the locks."""
    global _ledgers_lock
    _ledgers_lock = Lock()
    for ledger in _ledgers:
        ledger.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_after_fork)


def _name_wanted(session: SessionId, user: str | None, run: str | None, model: str | None) -> dict[str, str]:
    named = {"session": name_session(session), "user": user, "run": run, "model": model}
    return {name: str(value) for name, value in named.items() if value is not None}


def _sum(spends: Iterable[Spend]) -> Spend:
    return sum(spends, _NOTHING)


@overload
def spend(
    *,
    session: SessionId = None,
    user: str | None = None,
    run: str | None = None,
    model: str | None = None,
    since: datetime | timedelta | None = None,
) -> Spend: ...


@overload
def spend(
    *,
    by: SpendKey,
    session: SessionId = None,
    user: str | None = None,
    run: str | None = None,
    model: str | None = None,
    since: datetime | timedelta | None = None,
) -> dict[str | None, Spend]: ...


def spend(
    *,
    by: SpendKey | None = None,
    session: SessionId = None,
    user: str | None = None,
    run: str | None = None,
    model: str | None = None,
    since: datetime | timedelta | None = None,
) -> Spend | dict[str | None, Spend]:
    """Return what the calls to models of this process have cost since the first call of this or of :func:`on_cost`.

    Args:
        by: returns a dict instead, with an entry for each session, user, run or model; None stands for calls without.
        session: only calls of this session, as ``tracing.session`` or a conversation's id names it.
        user: only calls for this user.
        run: only calls made in this MLflow run, given by its id.
        model: only calls that this model has answered.
        since: only calls that have ended since then, or within so long. Of more than 100,000 calls, the oldest count
            only where all are asked for.

    Raises:
        ValueError: *by* is no such label.
    """
    if by is not None and by not in _Labels._fields:
        msg = f"by takes one of {', '.join(_Labels._fields)}, not {by!r}"
        raise ValueError(msg)
    begin = 0.0
    if since is not None:
        begin = since.timestamp() if isinstance(since, datetime) else time.time() - since.total_seconds()
    wanted = _name_wanted(session, user, run, model)
    found = [(labels, spent) for labels, spent in _get_ledger().list_calls(begin) if _matches(labels, wanted)]
    if by is None:
        return _sum(spent for _, spent in found)
    groups: dict[str | None, list[Spend]] = {}
    for labels, spent in found:
        groups.setdefault(getattr(labels, by), []).append(spent)
    return {key: _sum(spends) for key, spends in groups.items()}


def on_cost(
    limit: float,
    call: Callable[[Spend], object],
    *,
    each: SpendKey | None = None,
    session: SessionId = None,
    user: str | None = None,
    run: str | None = None,
    model: str | None = None,
) -> Undo:
    """Call *call* once when the calls to models from now on have cost *limit* US dollars together.

    It is given the :class:`Spend` and runs as the call that reaches the limit ends, on the thread of that call. An
    exception that it raises is logged and does not reach your program. To stop, let it set a flag or cancel a task.

    Args:
        limit: US dollars, above 0.
        call: what is called.
        each: count for each session, user, run or model by itself, and call for each that reaches the limit.
        session: count only calls of this session, as in :func:`spend`.
        user: likewise, for this user.
        run: likewise, in this MLflow run.
        model: likewise, of this model.

    Returns:
        A function that removes the limit.

    Raises:
        ValueError: *limit* is not above 0, or *each* is no such label.
    """
    if not limit > 0:
        msg = f"limit is a number of US dollars above 0, not {limit!r}"
        raise ValueError(msg)
    if each is not None and each not in _Labels._fields:
        msg = f"each takes one of {', '.join(_Labels._fields)}, not {each!r}"
        raise ValueError(msg)
    ledger = _get_ledger()
    made = _Limit(limit, call, each, _name_wanted(session, user, run, model))
    ledger.limits = [*ledger.limits, made]
    return partial(_take_away, ledger, made)


def _take_away(ledger: _Ledger, limit: _Limit) -> None:
    ledger.limits = [one for one in ledger.limits if one is not limit]
