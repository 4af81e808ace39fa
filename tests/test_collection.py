"""Every file of tests can be read where its library is not installed: the nox sessions of OpenAI read them all."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCKER = """
import os, sys
BLOCKED = frozenset(os.environ["BLOCKED_MODULES"].split())
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def read_testing() -> list[str]:
    """Return the distributions that the nox sessions of OpenAI install, by noxfile.py."""
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "TESTING":
            said: list[str] = ast.literal_eval(node.value)
            return ["mlspan", "openai", *(name for name in said if name[0] not in "-.")]
    raise AssertionError("noxfile.py has no TESTING")


def list_needed(names: list[str]) -> set[str]:
    """Return *names* of distributions and of all that they need, without what is only needed for an extra."""
    needed = set(map(normalize, names))
    found = sorted(needed)
    for name in found:
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another system or Python
            continue
        for one in requires:
            below = normalize(re.split(r"[^\w.-]", one, maxsplit=1)[0])
            if "extra ==" not in one and below not in needed:
                needed.add(below)
                found.append(below)
    return needed


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_files_of_tests_are_read_without_the_libraries(tmp_path: Path) -> None:
    """What a session does not install is skipped with its reason: an import that fails ends the whole session."""
    needed = list_needed(read_testing())
    blocked = [
        module
        for module, holders in metadata.packages_distributions().items()
        if not {normalize(name) for name in holders} & needed
    ]
    assert {"langchain_core", "mlflow", "numpy"} & set(metadata.packages_distributions()) <= set(blocked)
    (tmp_path / "blocker.py").write_text(BLOCKER)
    environ = {**os.environ, "BLOCKED_MODULES": " ".join(blocked), "PYTHONPATH": str(tmp_path)}
    environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of other distributions
    plugins = ["-p", "blocker", "-p", "pytest_asyncio.plugin", "-p", "pytest_timeout"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "--collect-only", "tests/integrations"]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "tests collected" in done.stdout


def test_a_session_runs_each_file_that_trains() -> None:
    """The main tests leave those out: a file that no session names would be run by nobody."""
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    words = set(re.findall(r"[a-z0-9_]+", noxfile))
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = path.stem.removeprefix("test_")
        if path != Path(__file__) and "pytest.mark.trains" in path.read_text(encoding="utf-8"):
            assert not words.isdisjoint({name, path.stem}), f"no session of nox runs {path.name}"
