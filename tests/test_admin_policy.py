"""The policy: what a machine's owner sets is where programs start from, and what is locked nobody loosens."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlspan import _guard, integrations, tracing
from mlspan.testing import Spans, content
from mlspan.tracing import runtime as _setup
from mlspan.tracing.settings import admin_policy
from mlspan.tracing.settings.resolution import resolve_config

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """``write(system=..., user=..., env=...)`` puts the files there that a process reads."""
    places = {"system": tmp_path / "etc.toml", "user": tmp_path / "mlspan/policy.toml", "env": tmp_path / "env.toml"}
    monkeypatch.setattr(admin_policy, "SYSTEM", places["system"])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("MLSPAN_POLICY", raising=False)
    (tmp_path / "mlspan").mkdir()
    monkeypatch.setattr(_guard, "_logged_lines", {})

    def put(**files: str) -> Path:
        for name, text in files.items():
            places[name].write_text(text)
            if name == "env":
                monkeypatch.setenv("MLSPAN_POLICY", str(places["env"]))
        admin_policy._read_files.cache_clear()
        return places[next(iter(files))]

    yield put
    admin_policy._read_files.cache_clear()


def test_order(write: Write) -> None:
    """An argument counts over the policy, that over the environment; a later file over an earlier one."""
    write(system="[settings]\nexperiment = 'a'\nmax_content_bytes = 2048\nservice_name = 's'", user="")
    write(user="[settings]\nexperiment = 'b'", env="[settings]\nservice_name = 't'")
    found = resolve_config({"max_content_bytes": 4096}, {"MLSPAN_EXPERIMENT": "c", "MLSPAN_MAX_CONTENT_BYTES": "1024"})
    assert (found.experiment, found.max_content_bytes, found.service_name) == ("b", 4096, "t")


def test_locked(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    """What is locked no later file and no program changes, and one line says so, once."""
    file = write(system="locked = ['tracking_uri']\n[settings]\ntracking_uri = 'https://a'")
    write(env="[settings]\ntracking_uri = 'https://b'")
    with caplog.at_level(logging.WARNING, "mlspan"):
        assert resolve_config({}, {"MLSPAN_TRACKING_URI": "https://c"}).tracking_uri == "https://a"
        for _ in range(2):
            assert resolve_config({"tracking_uri": "https://d"}, {}).tracking_uri == "https://a"
    said = f"mlspan: tracking_uri='https://a' is locked by the policy {file}: 'https://d' does not count"
    assert caplog.messages == [said]


@pytest.mark.parametrize(
    ("name", "locked", "given", "held", "lines"),
    [
        ("capture_content", False, True, False, 1),
        ("capture_content", True, False, False, 0),
        ("max_content_bytes", 4096, 8192, 4096, 1),
        ("max_content_bytes", 4096, 2048, 2048, 0),
        ("redact", ["a+"], ["b"], ["a+", "b"], 0),
        ("redact", ["a+"], "b", ["a+", "b"], 0),
    ],
)
def test_content_may_be_kept_tighter(
    write: Write, caplog: pytest.LogCaptureFixture, name: str, locked: object, given: object, held: object, lines: int
) -> None:
    """A program may record less than a lock lets it, not more; what it redacts comes on top."""
    write(system=f"locked = ['{name}']\n[settings]\n{name} = {json.dumps(locked)}")
    assert getattr(resolve_config({name: given}, {}), name) == held
    assert len(caplog.messages) == lines


def test_redaction_by_both(write: Write, tracing_off: None, spans: Spans) -> None:
    """What the policy redacts is redacted whatever function the program gives, and that function runs, too."""
    write(system="locked = ['redact']\n[settings]\nredact = ['sk-[a-z]+']")
    tracing.configure(redact=lambda text: text.replace("ada", "A."))
    with tracing.span("ask") as span:
        span.input = {"text": "ada has sk-abc"}
    assert content(spans.one(), "mlspan.input") == {"text": "A. has [redacted]"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("locked = ['redact']", "locked, yet without a value in [settings]: redact"),
        ("[settings]\nredct = 'a'", "no such setting: redct"),
        ("[settings]\nsample_ratio = 2", "sample_ratio: from 0 to 1"),
        ("[autologg]", "'autologg' is none of [settings], locked = [...] and [autolog]"),
        (
            "[autolog]\nopenai = 'off'",
            "[autolog] takes enabled = true or false, and the same for an integration's name",
        ),
    ],
)
def test_a_broken_file_keeps_content_in(write: Write, caplog: pytest.LogCaptureFixture, text: str, why: str) -> None:
    """What it may have locked is not known, so no content is recorded until it is mended; one line says why."""
    file = write(system=text)
    assert resolve_config({"capture_content": True}, {}).capture_content is False
    assert caplog.messages[0] == f"mlspan: the policy {file} cannot be read, so no content is recorded: {why}"


def test_a_policy_that_is_named_must_be_there(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that MLSPAN_POLICY names and that is missing is no policy that is met."""
    monkeypatch.setenv("MLSPAN_POLICY", "/nowhere.toml")
    assert resolve_config({}, {}).capture_content is False


def test_one_integration_off(write: Write, caplog: pytest.LogCaptureFixture, spans: Spans) -> None:
    """It stays off when it is asked for, and says so; others are on."""
    pytest.importorskip("openai")
    file = write(user="[autolog]\nopenai = false")
    integrations.openai.autolog()
    integrations.langchain.autolog()
    try:
        assert integrations.openai.HOOK._undo is None
        assert integrations.langchain.HOOK._wanted
        assert caplog.messages == [f"mlspan: the policy {file} keeps autolog of openai off"]
    finally:
        integrations.langchain.autolog(disable=True)


def test_all_off(write: Write, spans: Spans) -> None:
    """With ``enabled = false`` nothing is hooked, whoever asks; a later file cannot turn it on again."""
    write(system="[autolog]\nenabled = false", user="[autolog]\nenabled = true")
    integrations.autolog(silent=True)
    hooks = [getattr(integrations, name).HOOK for name in integrations._INTEGRATION_NAMES]
    assert not any(hook._wanted for hook in hooks)


def test_no_receiver_beside_the_locked_one(write: Write, monkeypatch: pytest.MonkeyPatch, tracing_off: None) -> None:
    """``otlp_endpoint = "none"`` sends nothing by OTLP, whatever OpenTelemetry's own variables name."""
    write(
        system="locked = ['otlp_endpoint', 'tracking_uri']\n[settings]\notlp_endpoint = 'none'\ntracking_uri = 'none'"
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracing.configure(otlp_endpoint="http://127.0.0.1:8", tracking_uri="http://127.0.0.1:7")
    with tracing.span("a"):
        pass
    now = _setup.get_runtime()
    assert now is not None
    assert now._pipelines == {}


def test_the_doctor_sees_hooks() -> None:
    """With ``--hooks`` each library that is installed is imported; autolog finds all that it patches in each."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLSPAN_", "OTEL_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "mlspan.cli", "doctor", "--hooks", "--json", "--no-write"],
        env=env | {"MLSPAN_TRACKING_URI": "none"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    said = json.loads(done.stdout)
    assert [line for line in said["problems"] if "hook" in line] == []
    seen = {one["module"]: one for one in said["libraries"] if one["hooked"] == "hooked"}
    assert [point["target"] for point in seen["multiprocessing.process"]["patch_points"]] == [
        "multiprocessing.process:BaseProcess.start"
    ]
    assert [module for module, one in seen.items() if not one["patch_points"]] == []
    points = [point for one in seen.values() for point in one["patch_points"]]
    assert [point for point in points if point["found"] is False or not point["loss"]] == []


def test_the_doctor_says_who(tmp_path: Path) -> None:
    """Each setting with the file that sets or locks it, and what the policy keeps off."""
    file = tmp_path / "p.toml"
    text = "locked = ['capture_content']\n[settings]\ncapture_content = false\ntracking_uri = 'none'\n"
    file.write_text(text + "[autolog]\nopenai = false\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLSPAN_", "OTEL_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "mlspan.cli", "doctor", "--json"],
        env=env | {"MLSPAN_POLICY": str(file), "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = json.loads(done.stdout)
    assert said["settings"]["capture_content"] == {"value": "False", "source": f"locked by {file}"}
    assert said["settings"]["tracking_uri"] == {"value": "none", "source": str(file)}
    assert {one["integration"] for one in said["libraries"] if one["off"] == str(file)} == {"openai"}
    assert {"workers.multiprocessing", "workers.spark"} <= {one["integration"] for one in said["libraries"]}
