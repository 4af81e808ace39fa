"""``integrations.autolog()`` imports an integration when its library is imported, and keeps its settings until then."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlspan import integrations
from mlspan.cli import hooked
from mlspan.integrations import _libraries
from mlspan.integrations._training.hook import TrainingHook

LIBRARY = {
    "groq/__init__.py": """
class Groq:
    def request(self, *args, **kwargs): return "answer"
class AsyncGroq:
    async def request(self, *args, **kwargs): return "answer"
""",
    "groq-1.7.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: groq\nVersion: 1.7.0\n",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder with a stand-in for Groq's client, of which only the methods that are patched exist."""
    for name, text in LIBRARY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(code: str, library: Path, **env: str) -> Any:
    """Run *code* in a process of its own, where ``imported()`` lists our integrations that are imported; read JSON."""
    before = f"""
import json, sys
from mlspan import integrations
def imported():
    names = integrations._INTEGRATION_NAMES
    return [name for name in names if f"mlspan.integrations.{{name}}" in sys.modules]
def hooked():
    import mlspan.integrations.groq
    return mlspan.integrations.groq.HOOK.is_installed
sys.path.insert(0, {str(library)!r})
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**kept, "MLSPAN_STRICT": "1", **env}
    command = [sys.executable, "-W", "error", "-c", before + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_namespace(module: str) -> bool:
    """Return whether *module* is a folder without ``__init__.py``, as far as it is installed here."""
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        return False
    return spec is not None and spec.origin is None


def test_each_integration_follows_its_library() -> None:
    """What :mod:`_libraries` says agrees with the hooks: a new integration under another name needs its line there."""
    wrong, known = [], set()
    for name, hook in hooked.iterate_hooks():
        if name not in integrations._INTEGRATION_NAMES:
            continue
        known.add(name)
        library = _libraries.find_library(name)
        modules = [hook.backing_hook.module, *getattr(hook, "modules", ())]
        wrong += [
            f"{name}: the import of {module} is none of {library.modules}"
            for module in modules
            if not any(f"{module}.".startswith(f"{one}.") for one in library.modules)
        ]
        wrong += [f"{name}: {module} is a namespace package" for module in library.modules if is_namespace(module)]
        if library.trains != isinstance(hook, TrainingHook) or (library.trains and "mlflow" not in library.modules):
            wrong.append(f"{name}: {library}")
    assert wrong == []
    assert known >= _libraries._LIBRARIES.keys()


def test_nothing_is_imported_before_its_library(library: Path) -> None:
    """All are on; the one whose library the program imports is imported, and hooked."""
    before, after, is_hooked = run(
        "integrations.autolog(); before = imported(); import groq; print(json.dumps([before, imported(), hooked()]))",
        library,
    )
    assert before == []
    assert "groq" in after
    assert not {"langchain", "anthropic", "sklearn", "bedrock"} & set(after)
    assert is_hooked


def test_a_library_that_is_imported_before(library: Path) -> None:
    """It is hooked at once."""
    assert run("import groq; integrations.autolog(); print(json.dumps(hooked()))", library)


@pytest.mark.parametrize(
    "between",
    [
        "integrations.autolog(disable=True)",
        "integrations.groq.autolog(disable=True)",
        "import mlspan.integrations.groq as own; own.autolog(disable=True)",
    ],
)
def test_what_is_said_later_stands(between: str, library: Path) -> None:
    """An integration that is turned off before its library is imported stays off."""
    code = f"integrations.autolog()\n{between}\nimport groq\nprint(json.dumps(hooked()))"
    assert run(code, library) is False
    assert run(f"{between}\nintegrations.autolog()\nimport groq\nprint(json.dumps(hooked()))", library) is True


def test_settings_of_its_own_stand(library: Path) -> None:
    """An integration's own ``autolog`` counts over the one for all, if it is called later."""
    code = """
integrations.autolog(exclusive=True)
import mlspan.integrations.groq as own
own.autolog(silent=True)
import groq
print(json.dumps([own.HOOK.settings.exclusive, own.HOOK.settings.silent]))"""
    assert run(code, library) == [False, True]


def test_an_attribute_tells_what_is_asked_for(library: Path) -> None:
    """Who looks at an integration sees that it is on, with the settings, before its library is imported."""
    code = """
integrations.autolog(exclusive=True)
print(json.dumps([integrations.groq.HOOK.is_wanted, integrations.groq.HOOK.settings.exclusive]))"""
    assert run(code, library) == [True, True]


def test_a_policy_keeps_one_off(library: Path, tmp_path: Path) -> None:
    """The policy's warning comes with ``autolog``, once, and the integration stays off."""
    policy = tmp_path / "policy.toml"
    policy.write_text("[autolog]\ngroq = false\n", encoding="utf-8")
    code = """
import logging
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("mlspan").addHandler(handler)
integrations.autolog()
told = list(lines)
import groq
integrations.groq.autolog()
print(json.dumps([told, len(lines), hooked()]))"""
    told, lines, is_hooked = run(code, library, MLSPAN_POLICY=str(policy))
    assert told == [f"mlspan: the policy {policy} keeps autolog of groq off"]
    assert lines == 1
    assert not is_hooked


def test_a_task_takes_them_along(library: Path) -> None:
    """A process that runs a task has the same integrations on, and imports those alone that it needs."""
    code = """
from mlspan.integrations.workers import _task
integrations.autolog(exclusive=True)
sent = _task.capture_task_context()
integrations.autolog(disable=True)
_task._apply_sent_settings(json.loads(sent)["hooks"])
before = imported()
import groq
print(json.dumps([before, hooked(), integrations.groq.HOOK.settings.exclusive, len(json.loads(sent)["hooks"])]))"""
    before, is_hooked, exclusive, count = run(code, library)
    assert before == []
    assert is_hooked
    assert exclusive
    assert count == len(integrations._INTEGRATION_NAMES)


@pytest.mark.parametrize("again", [False, True])
def test_after_a_shutdown(again: bool, library: Path) -> None:
    """The import of a library does not resume recording, which only ``autolog`` does."""
    code = f"""
from mlspan import tracing
from mlspan.tracing import runtime
integrations.autolog()
tracing.shutdown()
if {again}:
    integrations.autolog()
import groq
print(json.dumps([hooked(), runtime.get_runtime() is not None]))"""
    assert run(code, library) == [True, again]


def test_a_second_copy_takes_over(library: Path) -> None:
    """When mlspan is imported anew, the settings that waited in the first copy are gone with it."""
    code = """
integrations.autolog()
first = sys.modules["mlspan.hooks.deferred_settings"]
for name in [name for name in sys.modules if name.partition(".")[0] == "mlspan"]:
    del sys.modules[name]
from mlspan import integrations
integrations.autolog()
import groq
print(json.dumps([len(first._deferred), hooked()]))"""
    waiting, is_hooked = run(code, library)
    assert waiting == 0
    assert is_hooked


@pytest.mark.parametrize("imports_first", [False, True], ids=["deferred", "imported"])
def test_a_second_call_amid_the_import(imports_first: bool, library: Path) -> None:
    """Another thread's ``autolog()`` while a library's module runs: what its end brings is patched all the same."""
    sync, asynchronous = LIBRARY["groq/__init__.py"].split("class AsyncGroq", 1)
    text = f"class AsyncGroq{asynchronous}import groq_half\n{sync}"
    (library / "groq/__init__.py").write_text(text, encoding="utf-8")
    half = (
        "from mlspan import integrations\nintegrations.autolog(silent=True)\nintegrations.groq.autolog(silent=True)\n"
    )
    (library / "groq_half.py").write_text(half, encoding="utf-8")
    first = "import mlspan.integrations.groq\n" if imports_first else ""
    code = f"""
{first}integrations.autolog(silent=True)
import groq
hook = sys.modules["mlspan.integrations.groq"].HOOK
found = [one.found for one in hook.patch_points]
print(json.dumps([hook.is_installed, hasattr(groq.Groq.request, "__wrapped__"), found]))
"""
    assert run(code, library) == [True, True, [True, True]]
