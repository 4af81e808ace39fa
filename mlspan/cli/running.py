"""``mlspan run`` and ``mlspan ui``: start other programs with the settings of this command line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

from ..tracing.export.mlflow.names import is_experiment_id
from .arguments import Argument, Option, UsageError
from .common import (
    CommandFailure,
    ExperimentOption,
    TrackingUriOption,
    print_note,
    require_module,
    show_busy,
    write_line,
)
from .places import is_tracking_server, locate_store

_START_TIMEOUT: Final = 600.0  # seconds; the first start makes or upgrades a database, on a busy machine for minutes
_STOP_TIMEOUT: Final = 10.0  # seconds


def run(
    script: Annotated[str, Argument(metavar="SCRIPT", help="A Python file; with -m, the name of a module.")],
    arguments: Annotated[
        list[str] | None, Argument(metavar="ARGS", help="Arguments for the script: all that follows.")
    ] = None,
    module: Annotated[bool, Option("-m", help="Run SCRIPT as a module, as python -m does.")] = False,
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
) -> None:
    """Run a Python program with tracing on.

    The program needs no changes, and its exit code is passed on.

    Examples:
        mlspan run app.py --its own --options
        mlspan run -m package.module
        mlspan run --experiment nightly evaluate.py
    """
    if not module and not Path(script).exists():
        raise UsageError(f"there is no file {script}")
    environ = _build_environment(tracking_uri, experiment)
    kind = "module" if module else "script"
    argv = [sys.executable, "-m", "mlspan.cli.launch", kind, script, *(arguments or [])]
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(sys.executable, argv, environ)  # noqa: S606  # the user's program replaces this process, so signals reach it
    raise SystemExit(subprocess.run(argv, env=environ, check=False).returncode)  # noqa: S603


def _build_environment(tracking_uri: str | None, experiment: str | None) -> dict[str, str]:
    """Return the environment for the program.

    It sets the variables of mlspan and of MLflow, so that the program's runs are stored beside its traces.
    """
    environ = dict(os.environ)
    if tracking_uri is not None:
        environ["MLSPAN_TRACKING_URI"] = tracking_uri
        if tracking_uri != "none":
            environ["MLFLOW_TRACKING_URI"] = tracking_uri
    if experiment is not None:
        for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            environ.pop(name, None)
        environ["MLSPAN_EXPERIMENT"] = experiment
        environ["MLFLOW_EXPERIMENT_ID" if is_experiment_id(experiment) else "MLFLOW_EXPERIMENT_NAME"] = experiment
    return environ


def ui(
    port: Annotated[
        int | None, Option("--port", "-p", lowest=1, highest=65535, help="Default: 5000, or one that is free.")
    ] = None,
    host: Annotated[str, Option(help="Where to listen.")] = "127.0.0.1",
    browse: Annotated[bool, Option("--open", help="Open it in a browser.")] = False,
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
) -> None:
    """Start MLflow's viewer on the store that traces go to, and print its address. Ctrl-C ends it."""
    location = locate_store(tracking_uri, experiment)
    if is_tracking_server(location.uri):
        _print_address(location.uri.rstrip("/"), location.experiment, browse=browse)
        return
    require_module("mlflow", "mlflow", "the viewer")
    port = _find_port(host, port)
    argv = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", location.uri, "--host", host]
    argv += [
        "--port",
        str(port),
        "--workers",
        "1",
    ]  # enough for one person; the default of four takes a gigabyte of memory
    with tempfile.TemporaryFile() as log, _run_server(argv, log) as server:
        if not sys.stderr.isatty():  # which would show a spinner
            print_note("starting MLflow ...")
        with show_busy("Starting MLflow"):
            _wait_for_server(server, host, port, log)
        reachable = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104  # the address to show, nothing is bound
        _print_address(f"http://{reachable}:{port}", location.experiment, browse=browse)
        print_note(f"showing {location.display_uri}; Ctrl-C ends it")
        try:
            code = server.wait()
        except KeyboardInterrupt:
            return
        raise CommandFailure(f"mlflow ui ended with {code}: {_read_last_line(log)}")


def _print_address(address: str, experiment: str | None, *, browse: bool) -> None:
    """Print the address of the traces, and open it in a browser if asked."""
    address += f"/#/experiments/{experiment}/traces" if experiment and is_experiment_id(experiment) else ""
    write_line(address)
    if browse:
        webbrowser.open(address)


def _find_port(host: str, requested_port: int | None) -> int:
    """Return the requested port; without one, 5000 or any free port.

    Raises:
        CommandFailure: if the requested port is taken.
    """
    for port in (requested_port,) if requested_port else (5000, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return int(probe.getsockname()[1])
            except OSError as error:
                refused = error
    raise CommandFailure(f"cannot listen on {host}:{requested_port}: {refused.strerror}; give another --port")


@contextmanager
def _run_server(argv: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process, and at the end stop it with all its children: MLflow's server has worker processes."""
    server = subprocess.Popen(  # noqa: S603
        argv, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=os.name == "posix"
    )
    previous_handler = signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        yield server
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
        _signal_server(server, signal.SIGTERM)
        try:
            server.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            _signal_server(server, getattr(signal, "SIGKILL", signal.SIGTERM))
            server.wait()


def _raise_interrupt(_: int, __: FrameType | None) -> None:
    """Treat SIGTERM as Ctrl-C, so that the server is stopped as well."""
    raise KeyboardInterrupt


def _signal_server(server: subprocess.Popen[bytes], signal_number: int) -> None:
    """Send a signal to the server's process group. Windows has none: terminate the process."""
    try:
        if os.name == "posix":
            os.killpg(server.pid, signal_number)
        else:
            server.terminate()
    except ProcessLookupError:
        pass


def _wait_for_server(server: subprocess.Popen[bytes], host: str, port: int, log: object) -> None:
    """Wait until the server accepts connections.

    Raises:
        CommandFailure: if it exits, or does not answer in time; the message has the last line of its log.
    """
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise CommandFailure(f"mlflow ui did not start: {_read_last_line(log)}")
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.1)
    raise CommandFailure(
        f"mlflow ui did not answer on {host}:{port} within {_START_TIMEOUT:.0f} s: {_read_last_line(log)}"
    )


def _read_last_line(log: Any) -> str:
    """Return the last line of the server's log, cut to 300 characters."""
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it did not say why"
