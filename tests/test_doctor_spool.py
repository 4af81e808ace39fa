"""``mlspan doctor`` on folders of unsent spans that cannot be used, files that cannot be read, and secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import invoke

from mlspan.cli import probes
from mlspan.tracing.export.shown_addresses import hide_user_info
from mlspan.tracing.export.spool.survey import find_folder_fault


def ask_doctor(monkeypatch: pytest.MonkeyPatch, folder: Path, uri: str = "none") -> tuple[int, str]:
    monkeypatch.setenv("MLSPAN_SPOOL_DIR", str(folder))
    monkeypatch.setenv("MLSPAN_TRACKING_URI", uri)
    result = invoke(["doctor"])
    return result.exit_code, result.output


@pytest.mark.parametrize("place", ["spool", "spool/below", "spool/below/deeper"])
def test_a_file_in_place_of_the_folder_is_a_problem(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spool").touch()
    code, told = ask_doctor(monkeypatch, tmp_path / place)
    assert code == 1
    assert f"spans cannot be kept on disk until they are sent: {tmp_path / 'spool'} is not a folder; set" in told


def test_a_folder_that_may_not_be_used_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without permissions, and one that cannot even be looked at. Root may use them all, so the answer is set."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert find_folder_fault(tmp_path) == f"{tmp_path} does not let this user in"
    code, told = ask_doctor(monkeypatch, tmp_path)
    assert (code, "does not let this user in" in told) == (1, True)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "stat", refuse)
    assert find_folder_fault(tmp_path) == f"[Errno 13] Permission denied: '{tmp_path}'"


def test_a_new_folder_is_fine(tmp_path: Path) -> None:
    assert find_folder_fault(tmp_path / "a" / "b") is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_in_the_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1-a-b.spool").write_bytes(b"no database" * 500)
    (tmp_path / "2-a-b.spool").mkdir()
    code, told = ask_doctor(monkeypatch, tmp_path)
    assert (code, told.splitlines()[-1].partition("settings, ")[2]) == (
        0,
        "but 2 files cannot be read: their spans are not sent; delete them",
    )


def test_a_new_database_needs_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first trace cannot make it without MLflow, the doctor does not say that it will."""
    monkeypatch.setattr(probes, "find_version", lambda _: None)
    code, told = ask_doctor(monkeypatch, tmp_path / "spool", f"sqlite:///{tmp_path}/new.db")
    assert (code, f"traces for {tmp_path}/new.db need MLflow: pip install 'mlflow" in told) == (1, True)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://u:secret@host/a", "http://host/a"),
        ("postgresql://host/x?user=u&password=secret", "postgresql://host/x?user=u"),
        ("mysql+pymysql://u:sec@ret@host/x", "mysql+pymysql://host/x"),
        ("http://host/?api_key=secret", "http://host/"),
        ("u:secret@host:5000", "host:5000"),
        ("sqlite:///C:/a@b/x.db", "sqlite:///C:/a@b/x.db"),
        ("databricks", "databricks"),
    ],
)
def test_no_secret_of_an_address_is_shown(uri: str, shown: str) -> None:
    assert hide_user_info(uri) == shown
