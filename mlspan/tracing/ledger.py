"""The operations of a framework that tells of starts and ends by ids of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from opentelemetry import context as otel

from .._guard import guard
from .context import suppressed
from .live import Live, go, keepers
from .records import Observe, Record
from .setup import runtime

_reading = guard("reading an answer")


class Ledger:
    """Lives by the framework's own id of the run, each open until its end is told.

    A framework tells of starts and ends from whatever thread or task it likes. So the parent is the run that the
    framework names; or the caller's current span, where it names none, or where the caller stands inside of that run,
    with spans of his own in between.
    """

    def __init__(self) -> None:
        self._here = otel.create_key("mlspan-run")  # -> the id of the run whose code we are inside of
        self._open: dict[Hashable, Live] = {}
        self._before: dict[Hashable, otel.Context] = {}
        self._folded: dict[Hashable, Hashable] = {}
        self.own: Callable[[Hashable], Live | None] = self._open.get  # the operation of an id, if it is not folded away
        keepers.append(self._open.values)

    def __len__(self) -> int:
        return len(self._open) + len(self._before) + len(self._folded)

    def __contains__(self, id: Hashable) -> bool:
        return id in self._open

    def get(self, id: Hashable) -> Live | None:
        """The operation of *id*, or of the nearest run above that has not been folded away."""
        live = self._open.get(id)
        return self._open.get(self._unfolded(id)) if live is None and self._folded else live

    def _unfolded(self, id: Hashable) -> Hashable:
        while id not in self._open and id in self._folded:
            id = self._folded[id]
        return id

    def here(self) -> Hashable:
        """The id of the run whose code the caller is inside of; None outside of any."""
        return otel.get_value(self._here)

    def fold(self, id: Hashable, parent: Hashable) -> None:
        """Give *id* no span: what is below it stands below *parent*. It is ended as any other."""
        self._folded[id] = parent

    def start(
        self,
        id: Hashable,
        record: Record,
        observe: Observe[Any] | None = None,
        *,
        parent: Hashable = None,
        around: otel.Context | None = None,
    ) -> Live | None:
        """Open *id*; None where nothing is to be recorded.

        Args:
            id: the framework's own.
            record: what is known of it.
            observe: reads its answer into the record.
            parent: the id of the run that it is part of.
            around: the caller's context, where whoever asks has looked already, and nothing in it is against it.
        """
        if around is None:
            around = otel.get_current()
            if suppressed(around):
                return None
        if (now := runtime()) is None:
            return None
        if parent is not None:
            above = self._unfolded(parent) if self._folded else parent
            if around.get(self._here) != above and (host := self._open.get(above)) is not None:
                around = host.context
        live = self._open[id] = go(now, record, observe, draw=now.starter().draw(around), marks={self._here: id})
        return live

    def enter(self, id: Hashable) -> None:
        """Make the span of *id* the current one, until :meth:`leave` in the same thread and task.

        Of one that has been folded away it is the span that stands for it.
        """
        if (live := self.get(id)) is not None:
            self._before[id] = otel.get_current()
            otel.attach(live.context)

    def leave(self, id: Hashable) -> None:
        """Undo :meth:`enter`; in another task than that one's there is nothing to undo."""
        before = self._before.pop(id, None) if self._before else None
        if before is None or (live := self.get(id)) is None:
            return
        if otel.get_current() is live.context:
            otel.attach(before)
            return
        for other, context in list(self._before.items()):  # entered after us, and yet to leave: it leaves for us
            if context is live.context:
                self._before[other] = before
                return

    def end(self, id: Hashable, error: BaseException | None = None, *, stream_end: Any = None) -> None:
        if self._before:
            self.leave(id)
        if self._folded:
            self._folded.pop(id, None)
        if (live := self._open.pop(id, None)) is not None:
            live.finish(error, stream_end=stream_end)

    def release(self, id: Hashable) -> Live | None:
        """Leave *id*, which a stream or a task will end, rather than a call of :meth:`end`."""
        self.leave(id)
        if (live := self._open.pop(id, None)) is not None:
            live.hand_over()
        return live

    def observe(self, id: Hashable, value: Any) -> None:
        if (live := self._open.get(id)) is not None:
            with _reading:
                live.observe(value)
