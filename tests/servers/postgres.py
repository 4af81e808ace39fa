"""A PostgreSQL of one's own, on a free loopback port, with its data in a temporary folder."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from servers.process import free_port

DRIVERS = ("psycopg2", "psycopg")
DRIVER = next((name for name in DRIVERS if importlib.util.find_spec(name) is not None), DRIVERS[0])


def require_postgres() -> Any:
    """Return the driver of PostgreSQL, or skip the test where it or the server is not installed."""
    import pytest  # the benchmarks have none

    driver = pytest.importorskip(DRIVER)
    if shutil.which("initdb") is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    return driver


def connect(uri: str) -> Any:
    """Return a connection of the driver's own to *uri*."""
    return importlib.import_module(DRIVER).connect(uri.replace(f"+{DRIVER}", ""))


@contextmanager
def postgres() -> Iterator[tuple[str, int]]:
    """The address of its databases (one is ``/postgres``), and its process id. It refuses root: then it is nobody."""
    who: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    with TemporaryDirectory() as folder:  # pytest's own are closed to nobody
        data, port = f"{folder}/data", free_port()

        def run(*command: str) -> None:
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd="/", timeout=60, **who)

        if who:
            shutil.chown(folder, "nobody", "nogroup")
        run("initdb", "-D", data, "-U", "mlflow", "-A", "trust")
        options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1"
        run("pg_ctl", "-D", data, "-w", "-l", f"{data}/log", "-o", options, "start")
        try:
            process = int(Path(data, "postmaster.pid").read_text().splitlines()[0])
            yield f"postgresql+{DRIVER}://mlflow@127.0.0.1:{port}", process
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
