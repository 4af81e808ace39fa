"""A MariaDB of one's own, on a free loopback port, with its data in a temporary folder."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from servers.process import Process, free_port

NEEDS = ("mariadbd", "mariadb-install-db", "mariadb")


def find_missing() -> str | None:
    """Return why there is no MariaDB here; None if there is one."""
    missing = [name for name in NEEDS if shutil.which(name) is None]
    return f"no {' and no '.join(missing)}: apt-get install mariadb-server" if missing else None


@contextmanager
def mariadb() -> Iterator[str]:
    """The address of an empty database. The server refuses root: then it is nobody."""
    user = "nobody" if os.geteuid() == 0 else getpass.getuser()
    with TemporaryDirectory() as folder:
        data, port = Path(folder, "data"), free_port()
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={user}", "--skip-test-db"]
        install.append("--auth-root-authentication-method=normal")
        if user == "nobody":
            shutil.chown(folder, user)  # pytest's own folders are closed to nobody
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        socket = f"{folder}/socket"
        command = ["mariadbd", "--no-defaults", f"--datadir={data}", f"--user={user}", f"--socket={socket}"]
        command += [f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={folder}/pid"]
        server = Process(command, port, Path(folder, "log"))
        try:
            server.wait(60)
            made = "create database mlflow character set utf8mb4; create user mlflow@'127.0.0.1' identified by 'mlflow'"
            made += "; grant all on mlflow.* to mlflow@'127.0.0.1'"
            subprocess.run(
                ["mariadb", "--no-defaults", f"--socket={socket}", "-uroot", "-e", made], check=True, timeout=60
            )
            yield f"mysql+pymysql://mlflow:mlflow@127.0.0.1:{port}/mlflow"
        finally:
            server.stop()
