"""Pages that are read in a thread while those before them are worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(pages: Iterator[T]) -> Iterator[T]:
    """Yield *pages*, of which the next is read meanwhile, in a thread.

    Databases give up the interpreter's lock while they search, so on two cores a query costs no time of its own.
    What reading a page raises is raised where that page was due.
    """
    pool = ThreadPoolExecutor(1)
    waits = True
    try:
        upcoming = pool.submit(next, pages, None)
        while (page := upcoming.result()) is not None:
            upcoming = pool.submit(next, pages, None)
            yield page
    except KeyboardInterrupt:  # what was read so far is shown at once; the end of the process waits for the query
        waits = False
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)
