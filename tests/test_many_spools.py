"""A folder with thousands of spools: the cost of sending them grows with their number, and few are open at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from servers.program import environment, run
from servers.receiver import Receiver

from mlspan import tracing
from mlspan.tracing.export.spool import directory, drain, queue, write_ahead
from mlspan.tracing.export.spool.write_ahead import LogFinder, WriteAheadLog

KILLED = "work(0, 3)\nos.kill(os.getpid(), signal.SIGKILL)"


def leave_spool(folder: Path, url: str) -> Path:
    """Run a program that is killed before the destination has got its spans; return the *folder* that it leaves."""
    folder.mkdir(mode=0o700)
    assert run(KILLED, environment(folder, url, MLSPAN_DURABILITY="span")).returncode == -signal.SIGKILL
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a process that was killed while its spans may only have been in the write-ahead log."""
    folder = leave_spool(tmp_path_factory.mktemp("kept") / "killed", "http://127.0.0.1:1")
    assert [path.name for path in folder.glob("*-j0")]
    return folder


def copy_spools(killed: Path, folder: Path, count: int) -> Path:
    """Make a folder with *count* copies of a spool and of what is beside it."""
    folder.mkdir(mode=0o700)
    for number in range(count):
        for path in killed.iterdir():
            stem, rest = path.name.split("-", 1)
            shutil.copy(path, folder / f"{number}{stem}-{rest}")
    return folder


def test_a_drain_opens_few_files_at_a_time(
    killed: Path, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All spans of all files arrive, those of the logs too, and nothing is left of any."""
    monkeypatch.setattr(drain, "MAX_OPEN_SPOOLS", 4)
    folder = copy_spools(killed, tmp_path / "spool", 10)
    open_now: list[int] = []
    done = tracing.drain(
        spool_dir=folder,
        tracking_uri=receiver.url,
        progress=lambda so_far: open_now.append(
            sum(one.path.parent == folder for one in queue._open_spools if one.path)
        ),
    )
    assert (done.sent, done.stay, done.in_use, done.damaged, done.reasons) == (30, 0, 0, 0, {})
    assert max(open_now) == 4
    assert set(receiver.mlflow) == {"execute_tool 0", "execute_tool 1", "execute_tool 2"}
    assert list(folder.iterdir()) == []


def test_a_destination_that_is_away_is_tried_once(
    killed: Path, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many groups of files there are; what they hold is counted, with the reason, and is sent the next time."""
    monkeypatch.setattr(drain, "MAX_OPEN_SPOOLS", 4)
    receiver.mode = 503
    folder = copy_spools(killed, tmp_path / "spool", 10)
    done = tracing.drain(spool_dir=folder, tracking_uri=receiver.url)
    assert (done.sent, done.stay, list(done.reasons.values())) == (0, 30, [30])
    first = len(receiver.requests)
    receiver.requests.clear()
    alone = copy_spools(killed, tmp_path / "alone", 1)
    assert tracing.drain(spool_dir=alone, tracking_uri=receiver.url).stay == 3
    assert first == len(receiver.requests)
    receiver.mode = "ok"
    assert tracing.drain(spool_dir=folder, tracking_uri=receiver.url).sent == 30
    assert list(folder.iterdir()) == []


def test_a_destination_that_is_away_does_not_hold_up_another(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may be the first that are read: those of others are sent meanwhile, and then it is tried again."""
    monkeypatch.setattr(drain, "MAX_OPEN_SPOOLS", 1)
    folder, other = tmp_path / "spool", Receiver()
    receiver.mode = other.mode = 503
    copy_spools(leave_spool(tmp_path / "first", receiver.url), folder, 3)
    second = leave_spool(tmp_path / "second", other.url)
    for path in copy_spools(second, tmp_path / "copies", 1).iterdir():
        shutil.move(path, folder / f"9{path.name}")
    other.mode = "ok"

    def repair_first(so_far: drain.DrainResult) -> None:
        if so_far.sent:
            receiver.mode = "ok"

    done = tracing.drain(spool_dir=folder, timeout=60, progress=repair_first)
    other.stop()
    assert (done.sent, done.stay, done.reasons) == (12, 0, {})
    assert other.mlflow["execute_tool 2"] == 1
    assert receiver.mlflow["execute_tool 2"] == 3


def test_the_folder_is_not_read_for_each_file(
    killed: Path, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else, draining a folder of twice the files takes four times as long."""
    monkeypatch.setattr(write_ahead, "_DELETE_DELAY", 1_000.0)  # a loaded machine takes its time
    listed: list[str] = []
    scandir = os.scandir

    def watch(path: str | os.PathLike[str] = ".") -> object:
        listed.append(os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watch)
    counts = []
    for count in (3, 12):
        folder = copy_spools(killed, tmp_path / str(count), count)
        listed.clear()
        assert tracing.drain(spool_dir=folder, tracking_uri=receiver.url).sent == 3 * count
        counts.append(listed.count(str(folder)))
    assert 0 < counts[0] == counts[1]


def test_logs_are_found_by_one_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were there, and those that have come or gone since; a listing that is old is made again."""
    now = [100.0]
    monkeypatch.setattr(write_ahead, "monotonic", lambda: now[0])
    monkeypatch.setattr(write_ahead, "_ROTATE_BYTES", -1)
    spool, other = tmp_path / "1-a-b.spool", tmp_path / "11-a-b.spool"
    log, finder = WriteAheadLog(spool), LogFinder(tmp_path)
    for name in ("1-a-b.spool-jx", "1-a-b.spool-journal", "1-a-b.spool.aside-j0"):
        (tmp_path / name).touch()

    def find(path: Path = spool) -> list[int]:
        return [int(one.name.rpartition("-j")[2]) for one in finder.find_logs(path)]

    assert find() == [0]
    log.rotate_file()
    assert find() == [0, 1]
    WriteAheadLog(other).close()
    assert find(other) == [0]
    now[0] += 6
    log.delete_old_files()
    assert find() == [1]
    for _ in range(10):
        log.rotate_file()
    assert find() == list(range(1, 12))
    log.close()
    shutil.rmtree(tmp_path)
    now[0] += 6
    assert find() == []


def test_a_program_takes_over_few_at_a_time(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tracing_off: None
) -> None:
    """Those that many programs have left; the next ones when the first are empty, until all are sent."""
    monkeypatch.setattr(directory, "MAX_OPEN_SPOOLS", 3)
    monkeypatch.setattr(directory, "_SCAN_INTERVAL", 0.0)
    receiver.mode = 503
    folder = copy_spools(leave_spool(tmp_path / "killed", receiver.url), tmp_path / "spool", 8)
    receiver.mode = "ok"
    most = 0
    tracing.configure(tracking_uri=receiver.url, spool_dir=folder)
    until = time.monotonic() + 100
    while receiver.mlflow["execute_tool 2"] < 8 and time.monotonic() < until:
        with tracing.span("own", kind="tool"):  # what has ended is stored, and then the folder is looked at
            pass
        assert tracing.flush(60)
        most = max(most, sum(one.inherited for one in queue._open_spools if one.path))
    assert receiver.mlflow["execute_tool 2"] == 8
    assert 0 < most <= 3


def test_what_is_too_old_is_deleted_beside_them(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tracing_off: None
) -> None:
    """A program that has taken over as many as it may, for a destination that is away, deletes what has expired."""
    monkeypatch.setattr(directory, "MAX_OPEN_SPOOLS", 1)
    monkeypatch.setattr(directory, "_SCAN_INTERVAL", 0.0)
    receiver.mode = 503
    folder = copy_spools(leave_spool(tmp_path / "killed", receiver.url), tmp_path / "spool", 4)
    kept, *old = sorted(folder.glob("*.spool"))
    for path in old:
        spool = directory.recover_spool(path, LogFinder(folder))
        assert spool is not None  # and has what the log had
        spool.close()
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("update span set stored = stored - 7200")
        os.utime(path, (time.time() - 7200,) * 2)
    tracing.configure(tracking_uri=receiver.url, spool_dir=folder, spool_age=3600)
    until = time.monotonic() + 60
    while any(path.exists() for path in old) and time.monotonic() < until:
        with tracing.span("own", kind="tool"):
            pass
        tracing.flush(1)
    assert [path for path in (kept, *old) if path.exists()] == [kept]
    receiver.mode = "ok"
    assert tracing.flush(60)
