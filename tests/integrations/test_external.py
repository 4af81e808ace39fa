"""An integration of another distribution is known wherever one of ours is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlspan import _guard, integrations
from mlspan.hooks import catalog
from mlspan.integrations.workers import _task
from mlspan.testing import Spans
from mlspan.tracing.settings import admin_policy

LIBRARY = """
class Client:
    def ask(self, question, model=None):
        return question.upper()
"""
INTEGRATION = """
from mlspan.hooks import Call, Chat, Hook, trace_methods

def begin(call: Call):
    return Chat(provider="tinyllm", model=call.argument("model")), None

HOOK = Hook("tinyllm>=1,<3", "tinyllm", trace_methods({"tinyllm:Client.ask": begin}), options=frozenset({"loud"}))
autolog = HOOK.autolog
"""


def install(folder: Path, distribution: str, modules: dict[str, str], entry_points: str = "") -> None:
    """Put a distribution into *folder*, as an installer would leave it there."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    info = folder / f"{distribution.replace('-', '_')}-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.1\n")
    if entry_points:
        (info / "entry_points.txt").write_text(f"[mlspan_integrations]\n{entry_points}\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on ``sys.path`` with ``tinyllm``, and the distribution that integrates it."""
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "tinyllm", {"tinyllm": LIBRARY})
    install(folder, "tinyllm-mlspan", {"tinyllm_mlspan": INTEGRATION}, "tinyllm = tinyllm_mlspan")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(_guard, "_logged_lines", {})
    monkeypatch.setattr(_task, "_applied_settings", {})
    yield folder
    integrations.autolog(disable=True)
    for name in ("tinyllm", "tinyllm_mlspan"):
        sys.modules.pop(name, None)


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that ``MLSPAN_POLICY`` names; it turns off ``tinyllm``."""
    file = tmp_path / "policy.toml"
    file.write_text("[autolog]\ntinyllm = false")
    monkeypatch.setenv("MLSPAN_POLICY", str(file))
    admin_policy._read_files.cache_clear()
    yield file
    admin_policy._read_files.cache_clear()


def ask() -> Any:
    import tinyllm

    return tinyllm.Client().ask("hi", model="tiny-1")


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLSPAN_", "OTEL_", "MLFLOW_"))}
    return {**kept, "PYTHONPATH": str(folder), "MLSPAN_TRACKING_URI": "none", **more}


def test_autolog_turns_it_on_and_off(installed: Path, spans: Spans) -> None:
    """``integrations.autolog()`` finds it before its library is imported, and takes its patches back."""
    integrations.autolog(silent=True)
    assert (ask(), spans.tree()) == ("HI", "chat tiny-1")
    integrations.autolog(disable=True)
    assert (ask(), len(spans.all)) == ("HI", 1)


def test_it_is_an_attribute(installed: Path, spans: Spans) -> None:
    """``integrations.tinyllm`` is its module, with options of its own; a name that nobody registers is an error."""
    integrations.tinyllm.autolog(loud=True)
    assert (ask(), spans.tree()) == ("HI", "chat tiny-1")
    assert "tinyllm" in dir(integrations)
    with pytest.raises(AttributeError, match="no attribute 'hugellm'"):
        integrations.hugellm  # noqa: B018


@pytest.mark.parametrize("loaded", [True, False])
def test_a_policy_turns_it_off(
    installed: Path, policy: Path, spans: Spans, caplog: pytest.LogCaptureFixture, loaded: bool
) -> None:
    """By its name, whether it is asked for by itself or with all others; its module is then not even imported."""
    if loaded:
        integrations.tinyllm.autolog()
    integrations.autolog()
    assert ask() == "HI"
    assert spans.all == []
    assert f"mlspan: the policy {policy} keeps autolog of tinyllm off" in caplog.messages
    assert ("tinyllm_mlspan" in sys.modules) is loaded


def test_workers_get_its_settings(installed: Path, spans: Spans) -> None:
    """A task carries its settings and options; where it runs, the integration is turned on with them."""
    integrations.tinyllm.autolog(loud=True, silent=True)
    sent = json.loads(_task.capture_task_context() or "{}")["hooks"]["tinyllm"]
    assert (sent["settings"], sent["options"]) == ([True, False, True, False], {"loud": True})
    integrations.tinyllm.autolog(disable=True)
    for name in ("tinyllm", "tinyllm_mlspan"):
        sys.modules.pop(name, None)
    _task._apply_sent_settings({"tinyllm": sent})
    assert integrations.tinyllm.HOOK.settings.options == {"loud": True}
    assert (ask(), spans.tree()) == ("HI", "chat tiny-1")


def test_a_worker_without_it_goes_on(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that brings the settings of an integration that is not installed there runs, and one line says so."""
    monkeypatch.setattr(_task, "_applied_settings", {})
    monkeypatch.setattr(_guard, "_logged_lines", {})
    _task._apply_sent_settings({"tinyllm": {"settings": [True, False, False, False], "options": {}, "trains": False}})
    assert caplog.messages == [
        "mlspan: the integration tinyllm is on where this task comes from, and is not installed here"
    ]


def doctor(folder: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "mlspan.cli", "doctor", "--json", "--no-write", *options],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_the_doctor_lists_it(installed: Path) -> None:
    """With the library's version and the tested range; one that cannot be imported is a problem that names it."""
    install(installed, "broken-mlspan", {"broken_mlspan": "import nowhere_to_be_found"}, "broken = broken_mlspan")
    said = doctor(installed)
    (tinyllm,) = [one for one in said["libraries"] if one["module"] == "tinyllm"]
    assert (tinyllm["version"], tinyllm["tested"]) == ("2.1", ">=1,<3")
    assert [line for line in said["problems"] if "broken" in line and "reinstall broken_mlspan" in line]


HOOKED = """
import sys
from mlspan.cli import hooked

hooked.iterate_hooks = lambda own=hooked.iterate_hooks: (one for one in own() if one[0] == "tinyllm")
hooked.main()
"""
SEVERAL_PLACES = """
from contextlib import ExitStack

from mlspan.hooks import Hook, Patch, apply_patches, install_when_imported

def patch(target):
    return apply_patches([Patch(target, lambda _: lambda: None, f"calls of {target}")])

def install(hook):
    with ExitStack() as undo:
        undo.callback(patch("tinyllm:Client.ask"))
        undo.callback(patch("tinyllm:Client.gone"))
        for name in ("tinyllm_late", "tinyllm_broken", "tinyllm_absent"):
            undo.callback(install_when_imported(name, lambda name=name: patch(f"{name}:ask"), loss="late calls"))
        return undo.pop_all().close

HOOK = Hook("tinyllm>=1,<3", "tinyllm", install)
autolog = HOOK.autolog
"""


def check_tinyllm(folder: Path) -> dict[str, Any]:
    """Return what ``doctor --hooks`` finds of the library, by its own program."""
    argv = [sys.executable, "-c", HOOKED]
    done = subprocess.run(argv, env=environment(folder), capture_output=True, text=True, timeout=170, check=True)
    (found,) = json.loads(done.stdout.splitlines()[-1]).values()
    return dict(found)


def test_the_doctor_hooks_into_it(installed: Path) -> None:
    """What ``doctor --hooks`` runs imports its library, and says that the hook is in place, and where."""
    point = {"target": "tinyllm:Client.ask", "loss": "calls of Client.ask", "found": True, "reason": ""}
    assert check_tinyllm(installed) == {"state": "hooked", "patch_points": [point]}


def test_the_doctor_lists_patch_points(installed: Path) -> None:
    """Those that are found and missing; a module that is imported later is tried, and has a reason if it cannot be."""
    (installed / "tinyllm_mlspan.py").write_text(SEVERAL_PLACES)
    (installed / "tinyllm_late.py").write_text("def ask():\n    return 1\n")
    (installed / "tinyllm_broken.py").write_text("raise ValueError('it needs more')\n")
    found = check_tinyllm(installed)
    assert found["state"] == "hooked"
    assert {(one["target"], one["loss"], one["found"], one["reason"]) for one in found["patch_points"]} == {
        ("tinyllm:Client.ask", "calls of tinyllm:Client.ask", True, ""),
        ("tinyllm:Client.gone", "calls of tinyllm:Client.gone", False, ""),
        ("tinyllm_late:ask", "calls of tinyllm_late:ask", True, ""),
        ("tinyllm_broken", "late calls", None, "ValueError: it needs more"),
        ("tinyllm_absent", "late calls", None, "this version has no such module"),
    }


def test_a_broken_one_keeps_nobody_from_the_others(
    installed: Path, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    """One that cannot be imported, or has no hook, is left out with a line that names it."""
    install(installed, "broken-mlspan", {"broken_mlspan": "import nowhere"}, "broken = broken_mlspan")
    install(installed, "empty-mlspan", {"empty_mlspan": ""}, "empty = empty_mlspan")
    catalog._read_entry_points.cache_clear()
    integrations.autolog(silent=True)
    assert (ask(), spans.tree()) == ("HI", "chat tiny-1")
    assert [message for message in caplog.messages if "cannot be loaded" in message] == [
        (
            "mlspan: the integration broken (broken_mlspan) cannot be loaded: "
            "ModuleNotFoundError: No module named 'nowhere'"
        ),
        (
            "mlspan: the integration empty (empty_mlspan) cannot be loaded: "
            "AttributeError: module 'empty_mlspan' has no attribute 'HOOK'"
        ),
    ]


def test_our_names_are_ours(installed: Path, spans: Spans) -> None:
    """A distribution that registers the name of one of our integrations does not take its place."""
    install(installed, "false-openai", {"false_openai": INTEGRATION}, "openai = false_openai")
    catalog._read_entry_points.cache_clear()
    assert "openai" not in catalog.list_external_integrations()
    assert catalog.list_integrations()["openai"] == "mlspan.integrations.openai"


READS_NOTHING = """
import sys
import mlspan, mlspan.integrations, mlspan.integrations.openai, mlspan.hooks
from mlspan.hooks import catalog
assert catalog._read_entry_points.cache_info().misses == 0
mlspan.autolog()
mlspan.autolog()
assert catalog._read_entry_points.cache_info().misses == 1
"""


def test_nothing_is_read_before_it_is_asked_for(installed: Path) -> None:
    """Imports read no entry points; two calls of autolog read them once."""
    subprocess.run([sys.executable, "-c", READS_NOTHING], env=environment(installed), timeout=170, check=True)


def test_type_checkers_know_all_of_ours() -> None:
    """Each module of the package has its line in the block that type checkers read."""
    text = Path(integrations.__file__ or "").read_text(encoding="utf-8")
    assert {
        name for name in integrations._INTEGRATION_NAMES if f"    from . import {name} as {name}\n" not in text
    } == set()
    assert "sklearn" in integrations._INTEGRATION_NAMES
