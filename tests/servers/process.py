"""A server process on a free loopback port, stopped by its own process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class BoundedPopen(subprocess.Popen[Any]):
    """A process that its ``with`` block ends: at once after an exception, else when its *patience* is over."""

    patience = 60.0  # seconds

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is not None:
            self.terminate()  # what it has started, it can end
        for pipe in filter(None, (self.stdin, self.stdout, self.stderr)):
            with suppress(OSError):  # what was not read by a process that is gone
                pipe.close()
        try:
            self.wait(self.patience if kind is None else 10)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait(10)
            if kind is None:
                raise


class Process:
    """Started at once; usable when its port answers. Its output is in *log*."""

    def __init__(self, command: list[str], port: int, log: Path, *, env: dict[str, str] | None = None, **options: Any):
        self.port, self._log = port, log
        with log.open("wb") as out:
            self._process = BoundedPopen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **(env or {})},
                **options,
            )

    def wait(self, seconds: float = 150) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"{self._process.args} did not listen on {self.port}:\n{self._log.read_text()[-3000:]}")

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)
