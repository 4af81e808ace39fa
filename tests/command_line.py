"""The command line in this process, for tests that need not wait for one of its own."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from unittest import mock

from mlspan.cli.app import run_arguments


@dataclass(frozen=True)
class Result:
    """What a command has written, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Return all that was written: results, then remarks."""
        return self.stdout + self.stderr


def invoke(arguments: Sequence[object], *, env: Mapping[str, str] | None = None, input: bytes | str = b"") -> Result:
    """Run the command that these arguments name."""
    text = input.encode() if isinstance(input, str) else input
    given = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8")
    written, remarks = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    with (
        mock.patch.dict(os.environ, env or {}),
        mock.patch.multiple(sys, stdin=given, stdout=written, stderr=remarks),
    ):
        code = run_arguments([str(one) for one in arguments])
        written.flush()
        remarks.flush()
    texts = [stream.buffer.getvalue().decode() for stream in (written, remarks)]  # type: ignore[attr-defined]
    return Result(code, *texts)
