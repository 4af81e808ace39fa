"""Run MLflow's own tests of its autologging with our hooks in the place of its flavors, and judge what differs.

``python run_peer_suite.py CHECKOUT [FOLDER ...]``, where CHECKOUT is a folder with MLflow's sources. Its ``tests`` and
its settings of pytest are copied to a folder of their own, so that the installed MLflow is what is tested. A test that
fails with us runs again without us: what fails then too says nothing about us. The rest are the differences. The result
is 1 if one of them is not in ``expected_differences.txt``, or if one of those there has passed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
EXPECTED = HERE / "expected_differences.txt"
SECONDS = 3600  # for one call of pytest
SUITES = {  # files of MLflow's tests, by the modules that they need
    "tests/autologging": ("sklearn",),
    "tests/sklearn/test_sklearn_autolog.py": ("sklearn", "matplotlib"),
    "tests/xgboost/test_xgboost_autolog.py": ("xgboost", "matplotlib"),
    "tests/lightgbm/test_lightgbm_autolog.py": ("lightgbm", "matplotlib"),
    "tests/statsmodels/test_statsmodels_autolog.py": ("statsmodels",),
    "tests/tracking/fluent/test_fluent_autolog.py": (
        *("anthropic", "autogen", "boto3", "dspy", "google.genai", "groq", "keras", "langchain", "lightgbm", "litellm"),
        *("lightning", "llama_index.core", "mistralai", "openai", "pyspark", "pytorch_lightning", "setfit", "sklearn"),
        *("statsmodels", "tensorflow", "transformers", "xgboost"),
    ),
    "tests/spark/autologging/ml": ("pyspark",),
    "tests/keras/test_autolog.py": ("keras",),
    "tests/tensorflow/test_tensorflow2_autolog.py": ("tensorflow",),
    "tests/pytorch/test_pytorch_autolog.py": ("pytorch_lightning", "torchvision"),
    "tests/paddle/test_paddle_autolog.py": ("paddle",),
}


def read_expected(path: Path) -> dict[str, str]:
    """Return the reason of each expected difference by the id of its test; a reason stands above its tests."""
    expected: dict[str, str] = {}
    reason = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            reason = line.removeprefix("#").strip()
        elif line:
            expected[line] = reason
    return expected


def run_tests(folder: Path, tests: list[str], outcomes: Path, shim: str) -> dict[str, str]:
    """Run *tests* in *folder* and return the outcome of each: ``passed``, ``failed`` or ``skipped``."""
    outcomes.unlink(missing_ok=True)
    path = os.pathsep.join([str(HERE), str(HERE.parent.parent)])
    env = {**os.environ, "PYTHONPATH": path, "MLSPAN_PEER_SHIM": shim, "MLSPAN_PEER_OUTCOMES": str(outcomes)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would compile each library anew, MLflow's own ones too
    env["OMP_NUM_THREADS"] = "1"  # the data is small, and threads that wait for each other take a busy machine
    env["MLSPAN_STRICT"] = "1"  # an error of ours that the guard would log fails the test
    options = ["-q", "--tb=short", "--no-showlocals", "--durations=20", "--color=no"]
    plugins = ["-p", "mlspan_peer_shim", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *plugins, *tests]
    ended = subprocess.run(command, cwd=folder, env=env, timeout=SECONDS, check=False)
    if ended.returncode not in {0, 1, 5}:  # passed, failed, nothing to run
        sys.exit(f"pytest ended with {ended.returncode}")
    found: dict[str, str] = {}
    for line in outcomes.read_text(encoding="utf-8").splitlines() if outcomes.exists() else []:
        outcome, test = line.split(" ", 1)
        if found.get(test) != "failed":  # in any of its parts
            found[test] = outcome
    return found


def copy_tests(checkout: Path, folder: Path) -> None:
    """Copy MLflow's tests and its settings of pytest; not its package, which would be found before the installed."""
    shutil.copytree(checkout / "tests", folder / "tests")
    for name in ("pyproject.toml", "pytest.ini", "conftest.py"):
        if (checkout / name).exists():
            shutil.copy(checkout / name, folder / name)


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # what holds it is not there
        return False


def list_suites(checkout: Path, wanted: list[str]) -> list[str]:
    """Return the files to run: those of *wanted*, or all, whose libraries are installed; print what is left out."""
    suites = []
    for suite, modules in SUITES.items():
        lacking = [module for module in modules if not is_installed(module)]
        if not (checkout / suite).exists():
            print(f"Left out: {suite}, which this checkout lacks")
        elif lacking:
            print(f"Left out: {suite}, which needs {', '.join(lacking)}")
        elif not wanted or any(word in suite for word in wanted):
            suites.append(suite)
    return suites


def report(title: str, tests: dict[str, str]) -> None:
    print(f"{title}: {len(tests)}")
    for test, reason in sorted(tests.items()):
        print(f"  {test}{f': {reason}' if reason else ''}")


def main() -> int:
    checkout, *wanted = sys.argv[1:]
    suites = list_suites(Path(checkout), wanted)
    print("MLflow's tests:", *suites)
    with tempfile.TemporaryDirectory() as place:
        folder, outcomes = Path(place, "mlflow"), Path(place, "outcomes")
        folder.mkdir()
        copy_tests(Path(checkout), folder)
        found: dict[str, str] = {}
        for suite in suites:  # a process each: what one library leaves behind is no matter of the next
            found |= run_tests(folder, [suite], outcomes, "on")
        failed = sorted(test for test, outcome in found.items() if outcome == "failed")
        plain = run_tests(folder, failed, outcomes, "off") if failed else {}
    return judge(found, plain, read_expected(EXPECTED))


def judge(found: dict[str, str], plain: dict[str, str], expected: dict[str, str]) -> int:
    """Print how the outcomes with us differ from those without, and return 1 if that is not as expected."""
    differ = {test for test, outcome in found.items() if outcome == "failed" and plain.get(test) != "failed"}
    new = dict.fromkeys(differ - expected.keys(), "")
    over = {test: reason for test, reason in expected.items() if found.get(test) == "passed"}
    outcomes = list(found.values())
    print(f"{outcomes.count('passed')} of {len(found)} passed, {outcomes.count('skipped')} skipped")
    report("Failed without mlspan as well", {test: "" for test in found if plain.get(test) == "failed"})
    report("Expected differences", {test: expected[test] for test in differ & expected.keys()})
    report("Expected differences that are none any more", over)
    report("New differences", new)
    if not found:
        print("No test has run")
    return 1 if new or over or not found else 0


if __name__ == "__main__":
    sys.exit(main())
