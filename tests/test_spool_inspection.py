"""Looking into spools of ended processes: it changes no file, it is quick, and damage is told, once, by who sends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from servers.process import free_port

from mlspan import tracing
from mlspan.tracing.export.spool.survey import survey_folder
from mlspan.tracing.export.spool.waiting_counts import count_waiting_spans

pytest.importorskip("mlflow")

SPANS = 30
PROGRAM = f"""
import os, signal
from mlspan import tracing
from mlspan.tracing import runtime
for number in range({SPANS}):
    with tracing.span(f"step {{number}}", kind="agent"):
        pass
runtime.get_runtime().save_to_disk(60)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def destination() -> str:
    return f"http://127.0.0.1:{free_port()}"  # of nobody


@pytest.fixture(scope="module")
def killed(destination: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a process that was killed: all that its spool holds is in SQLite's journal."""
    folder = tmp_path_factory.mktemp("killed")
    env = {**os.environ, "MLSPAN_TRACKING_URI": destination, "MLSPAN_SPOOL_DIR": str(folder), "MLSPAN_STRICT": "0"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, env=env, capture_output=True, timeout=100)
    assert done.returncode == -signal.SIGKILL
    return folder


@pytest.fixture(params=["a killed process's", "an ended process's"])
def folder(request: pytest.FixtureRequest, killed: Path, tmp_path: Path) -> Path:
    """A copy of that folder, or one of a spool without a journal."""
    made = shutil.copytree(killed, tmp_path / "spool")
    (path,) = made.glob("*.spool")
    if request.param == "an ended process's":
        with closing(sqlite3.connect(path)) as db:
            db.execute("pragma wal_checkpoint(truncate)")
    _make_old(made)
    return made


def _make_old(folder: Path) -> None:
    """Have no file be that of a process that is just starting."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - 100,) * 2)


def picture(folder: Path) -> dict[str, Any]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def look(folder: Path, destination: str) -> tuple[list[tuple[str, int | None]], int]:
    """Return what the doctor and the list say; both must leave every file as it was."""
    before = picture(folder)
    found = [(one.state, one.spans) for one in survey_folder(folder)]
    counted = count_waiting_spans(folder, f"mlflow {destination}").spans
    assert picture(folder) == before
    return found, counted


def test_looking_changes_nothing(folder: Path, destination: str) -> None:
    """The spans are counted, and every file is as it was, with none beside it; also where nothing may be written."""
    assert look(folder, destination) == ([("waiting", SPANS)], SPANS)
    folder.chmod(0o500)
    try:
        assert look(folder, destination) == ([("waiting", SPANS)], SPANS)
    finally:
        folder.chmod(0o700)


def _cut(part: str, size: Callable[[int], int]) -> Callable[[Path], None]:
    def harm(path: Path) -> None:
        target = path.with_name(path.name + part)
        os.truncate(target, size(target.stat().st_size))

    return harm


def _garbage(part: str, at: int) -> Callable[[Path], None]:
    def harm(path: Path) -> None:
        with path.with_name(path.name + part).open("r+b") as file:
            file.seek(at)
            file.write(b"q" * 64)

    return harm


DAMAGE = {
    "nothing is left": _cut("", lambda _: 0),
    "one byte is left": _cut("", lambda _: 1),
    "half a header is left": _cut("", lambda _: 50),
    "less than a page is left": _cut("", lambda _: 511),
    "a page is left": _cut("", lambda _: 4096),
    "half is left": _cut("", lambda size: size // 2),
    "the last page is missing": _cut("", lambda size: size - 4096),
    "the last byte is missing": _cut("", lambda size: size - 1),
    "the header is garbage": _garbage("", 0),
    "the schema is garbage": _garbage("", 105),
    "the journal has one byte": _cut("-wal", lambda _: 1),
    "the journal has a header": _cut("-wal", lambda _: 32),
    "the journal's header is garbage": _garbage("-wal", 0),
    "the journal's first page is garbage": _garbage("-wal", 2000),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_told_and_nobody_stumbles(
    folder: Path, kind: str, destination: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Looking leaves it as it is. Who sends sets it aside, and names it once; what can still be read is not damaged."""
    (path,) = folder.glob("*.spool")
    if "journal" in kind and not path.with_name(path.name + "-wal").exists():
        pytest.skip("it has no journal")
    DAMAGE[kind](path)
    _make_old(folder)
    found, counted = look(folder, destination)
    assert found in ([("damaged", None)], [("waiting", SPANS)])
    assert counted == (found[0][1] or 0)
    told = tracing.drain(spool_dir=folder)
    assert (told.damaged, told.stay) == ((1, 0) if found[0][0] == "damaged" else (0, SPANS))
    assert caplog.text.count("set aside as") == told.damaged
    assert [one.path.name for one in survey_folder(folder)] == [path.name + ".aside" * told.damaged]
    assert tracing.drain(spool_dir=folder).damaged == 0
    assert caplog.text.count("set aside as") == told.damaged


def test_the_cut_is_told_to_a_person(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor tells of it before and after the drain, which says what it did with it."""
    (path,) = folder.glob("*.spool")
    os.truncate(path, 0)
    _make_old(folder)
    monkeypatch.setenv("MLSPAN_SPOOL_DIR", str(folder))
    monkeypatch.setenv("MLSPAN_TRACKING_URI", "none")
    last = "✓ nothing is wrong with the settings, but 1 file cannot be read: its spans are not sent; delete it"
    assert invoke(["doctor"]).stdout.splitlines()[-1] == last
    done = invoke(["drain", "--spool-dir", str(folder)])
    assert json.loads(invoke(["drain", "--spool-dir", str(folder), "--json"]).stdout)["damaged"] == 0
    assert (done.exit_code, done.stdout.splitlines()) == (
        1,
        ["0 spans sent", "1 file damaged and set aside; mlspan doctor names it"],
    )
    assert invoke(["doctor"]).stdout.splitlines()[-1] == last
    assert tracing.drain(spool_dir=folder).damaged == 0


def test_a_damaged_page_is_found_while_sending(
    folder: Path, mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Damage that only reading all of it finds ends no drain, and is counted once."""
    (path,) = folder.glob("*.spool")
    if path.with_name(path.name + "-wal").exists():
        pytest.skip("the pages are in the journal, which has checksums")
    whole = folder / "1-whole-0.spool"
    shutil.copy(path, whole)
    with closing(sqlite3.connect(path)) as db:
        root = dict(db.execute("select name, rootpage from sqlite_master"))
    with path.open("r+b") as file:
        file.seek((root["context"] - 1) * 4096)
        file.write(bytes(4096))
    done = tracing.drain(spool_dir=folder, tracking_uri=mlflow_store)
    assert (done.sent, done.damaged, done.stay) == (SPANS, 1, 0)
    assert caplog.text.count("set aside as") == 1
    assert {one.name.removesuffix("-wal") for one in folder.glob("*.spool*")} == {path.name + ".aside"}


def test_many_files_are_looked_at_quickly(killed: Path, destination: str, tmp_path: Path) -> None:
    """300 files, each with a journal, take far less than ten times 0.3 s; a list looks at the first 200 alone."""
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    for number in range(300):
        for path in killed.iterdir():
            shutil.copy(path, folder / path.name.replace(path.name.partition("-")[0], str(number), 1))
    began = time.process_time()
    found = survey_folder(folder)
    assert time.process_time() - began < 1.5  # measured: 0.3 s
    assert [(one.state, one.spans) for one in found] == [("waiting", SPANS)] * 300
    counted = count_waiting_spans(folder, f"mlflow {destination}")
    assert (counted.spans, counted.unread_files) == (200 * SPANS, 100)
    assert len(list(folder.iterdir())) == 600
