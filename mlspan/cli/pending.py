"""The note of ``mlspan list`` and ``show`` on spans that have yet to reach the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..tracing.export.destination import make_store_path_absolute, strip_credentials
from ..tracing.export.flush_result import name_destination
from ..tracing.export.spool.limits import SPOOL_SUFFIX
from . import form
from .common import CommandFailure, find_own_command, print_note
from .places import StoreLocation, find_spool_folder, resolve_settings


@contextmanager
def noting_pending_spans(location: StoreLocation) -> Iterator[None]:
    """Note the spans that wait for a store, should the block fail, as it does if the store cannot be reached."""
    try:
        yield
    except CommandFailure:
        note_pending_spans(location)
        raise


def note_pending_spans(location: StoreLocation) -> None:
    """Print a line if spans of ended programs wait on disk for this store: how many, since when, and what to do."""
    folder = find_spool_folder(resolve_settings({})[0])
    if folder is None or not any(True for _ in folder.glob(f"*{SPOOL_SUFFIX}")):
        return
    from ..tracing.export.spool.waiting_counts import count_waiting_spans

    address = strip_credentials(make_store_path_absolute(location.uri))
    spans, since, unread = count_waiting_spans(folder, name_destination("mlflow", {"tracking_uri": address}))
    if spans and since is not None:
        least = "at least " if unread else ""
        waiting = f"{least}{form.format_quantity(spans, 'span')} {'waits' if spans == 1 else 'wait'}"
        print_note(f"{waiting} on disk for this store, since {form.format_short_time(since * 1000)}:")
        print_note(f"{find_own_command()} drain")
