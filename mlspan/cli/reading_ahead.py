"""Pages that are read in threads while those before them are worked on."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
_SWITCH_SECONDS: Final = 0.0002  # Python's own 0.005 is more than what a page takes


def read_ahead(jobs: Iterable[Callable[[], T]], *, threads: int) -> Iterator[T]:
    """Yield what each of *jobs* returns, in their order; *threads* of them are done meanwhile.

    Databases give up the interpreter's lock while they search, so on two cores a query costs little time of its own.
    The threads have to get that lock soon, to begin. What a job raises is raised where its page was due.
    """
    pool, before, waits = ThreadPoolExecutor(threads), sys.getswitchinterval(), True
    sys.setswitchinterval(_SWITCH_SECONDS)
    upcoming: deque[Future[T]] = deque()
    try:
        for job in jobs:
            upcoming.append(pool.submit(job))
            if len(upcoming) > threads:
                yield upcoming.popleft().result()
        while upcoming:
            yield upcoming.popleft().result()
    except KeyboardInterrupt:  # what was read so far is shown at once; the end of the process waits for the queries
        waits = False
        raise
    finally:
        sys.setswitchinterval(before)
        pool.shutdown(wait=waits, cancel_futures=True)
