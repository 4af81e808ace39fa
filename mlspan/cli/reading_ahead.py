"""Pages that are read in a thread while those before them are worked on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
_SWITCH_SECONDS: Final = 0.0002  # Python's own 0.005 is more than what a page takes


def read_ahead(pages: Iterator[T]) -> Iterator[T]:
    """Yield *pages*, of which the next is read meanwhile, in a thread.

    Databases give up the interpreter's lock while they search, so on two cores a query costs little time of its own.
    The thread has to get that lock soon, to begin. What reading a page raises is raised where that page was due.
    """
    pool, before, waits = ThreadPoolExecutor(1), sys.getswitchinterval(), True
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        upcoming = pool.submit(next, pages, None)
        while (page := upcoming.result()) is not None:
            upcoming = pool.submit(next, pages, None)
            yield page
    except KeyboardInterrupt:  # what was read so far is shown at once; the end of the process waits for the query
        waits = False
        raise
    finally:
        sys.setswitchinterval(before)
        pool.shutdown(wait=waits, cancel_futures=True)
