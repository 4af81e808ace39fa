"""Heads of HTTP answers, within a time: a limit of the time between two bytes never ends one that drips.

``read_answer`` in ``answers.py`` bounds the body.
"""

from __future__ import annotations

import http.client
import io
import math
from time import monotonic
from typing import Any

from requests.adapters import HTTPAdapter

from . import answers


class _BoundedFile(io.RawIOBase):
    """A socket as a file, which raises TimeoutError once *until* (of ``monotonic``) is over."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.until = monotonic() + answers.MAX_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if monotonic() > self.until:
            raise TimeoutError("the head of an answer does not end")
        return self._raw.readinto(buffer)

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    """A response whose head is read within a time."""

    fp: Any

    def __init__(self, *of: Any, **more: Any) -> None:
        super().__init__(*of, **more)
        self._file = _BoundedFile(self.fp.detach())
        self.fp = io.BufferedReader(self._file)

    def begin(self) -> None:
        super().begin()
        self._file.until = math.inf


class BoundedHeadsAdapter(HTTPAdapter):
    """An adapter of requests whose connections read the head of an answer within a time."""

    def get_connection_with_tls_context(self, *of: Any, **more: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*of, **more)
        made = pool.ConnectionCls
        if made.response_class is not _BoundedResponse:
            pool.ConnectionCls = type(made.__name__, (made,), {"response_class": _BoundedResponse})
        return pool
