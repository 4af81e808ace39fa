"""What a newcomer pastes works: what the README, the docs and our own messages tell to install and to type."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from otlp_lines import lines, span
from servers.process import BoundedPopen

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = [  # where a person reads what to install
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(path for path in (ROOT / "examples").rglob("*") if path.is_file()),
    *(ROOT / "mlspan").rglob("*.py"),
]
# ``pip install mlspan``, with quotes and an extra or not, and ``mlspan[extra]`` anywhere else.
FROM_AN_INDEX = re.compile(r"""pip install (?:-\S+ )*["'`]*mlspan\b|\bmlspan\[""")
READERS = ["list", "show", "stats", "tail"]  # read by MLflow's client where neither SQL nor REST does
BIN = Path(sys.executable).parent


def find_wrong_installs(text: str) -> list[str]:
    """Return the lines that tell to install mlspan from an index, where it is not."""
    return [line.strip() for line in text.splitlines() if FROM_AN_INDEX.search(line)]


@pytest.mark.parametrize(
    "line",
    [
        "pip install mlspan",
        "    pip install 'mlspan[mlflow,openai]'",
        'uv pip install -U "mlspan"',
        "needs mlspan[ag2]",
    ],
)
def test_a_wrong_install_is_seen(line: str) -> None:
    """Each way to write it is found, and the right one is not."""
    assert find_wrong_installs(f"before\n{line}\n") == [line.strip()]
    assert find_wrong_installs("pip install '.[mlflow,openai]'\npip install openai; mlspan doctor\n") == []


def test_what_is_told_to_be_installed_is_there() -> None:
    """Nothing names a distribution of ours on an index; an extra that a page names is one."""
    wrong = {
        path.relative_to(ROOT).as_posix(): found
        for path in SHOWN
        if path.is_file() and (found := find_wrong_installs(path.read_text(encoding="utf-8")))
    }
    assert wrong == {}
    known = re.findall(r"^([\w-]+) = \[", re.split(r"\n\[", _extras())[0], re.MULTILINE)
    for path in SHOWN:
        for extras in re.findall(r"""pip install ['"]\.\[([\w,-]+)\]""", path.read_text(encoding="utf-8")):
            assert set(extras.split(",")) <= set(known), path


def _extras() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]\n")[2]


WITHOUT_MLFLOW = "import sys; sys.modules['mlflow'] = None; from mlspan.cli import main; sys.argv[0] = 'mlspan'; main()"


def run_without_mlflow(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_MLFLOW, *arguments]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("name", READERS)
def test_a_command_that_needs_mlflow_says_what_to_install(name: str, tmp_path: Path) -> None:
    """One line, which pip can do from any folder; the start page names the command, and README points there."""
    done = run_without_mlflow(tmp_path, name, "--tracking-uri", "mysql://127.0.0.1:9/traces")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("needs mlflow: pip install 'mlflow>=3.6,<4'")
    assert "(docs/start.md#without-mlflow)" in (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs/start.md").read_text(encoding="utf-8")
    (table,) = [part for part in page.split("\n\n") if part.startswith("| works without it |")]
    assert f"`{name}`" in table or f"`mlspan {name}`" in table


def test_the_demo_without_mlflow(tmp_path: Path) -> None:
    """It shows the trace, and its last line installs MLflow when pasted, as only a server takes traces without it."""
    pytest.importorskip("openai")
    done = run_without_mlflow(tmp_path, "demo", "--tracking-uri", "sqlite:///mlflow.db")
    assert (done.returncode, "execute_tool get_weather" in done.stdout) == (0, True), done.stderr
    assert done.stdout.splitlines()[-1] == "pip install 'mlflow>=3.6,<4'"
    assert done.stderr.splitlines()[-1].endswith("needs MLflow. Install it, and run the demo again:")
    assert list(tmp_path.iterdir()) == []


def test_commands_that_need_no_mlflow(tmp_path: Path) -> None:
    """With a tracking server, all commands get by without it."""
    (tmp_path / "app.py").write_text("print('ran')")
    (tmp_path / "spans.jsonl").write_text("")
    server = ["--tracking-uri", "http://127.0.0.1:9"]
    for arguments in (
        ["run", *server, "app.py"],
        ["ui", *server],
        ["drain", *server],
        ["import", "spans.jsonl", *server],
        *([name, *server] for name in READERS),
    ):
        assert "needs mlflow" not in run_without_mlflow(tmp_path, *arguments).stderr, arguments
    assert "needs mlflow" not in run_without_mlflow(tmp_path, "doctor", "--no-write", *server).stderr


@pytest.fixture
def environ(aimock: str) -> dict[str, str]:
    """A newcomer's shell, with a model to ask."""
    pytest.importorskip("mlflow")
    pytest.importorskip("openai")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    return {**kept, "OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "test", "PATH": "/usr/bin:/bin"}


@pytest.mark.timeout(340)
def test_the_last_line_of_the_demo_can_be_pasted(environ: dict[str, str], tmp_path: Path) -> None:
    """As ``make demo`` runs it, in a checkout of any name: what it tells to type starts the viewer."""
    checkout = tmp_path / "ml span (Prüfung) & co's $HOME"
    checkout.mkdir()
    (checkout / ".venv").symlink_to(BIN.parent)
    done = _run_shell(".venv/bin/python -m mlspan.cli demo", checkout, environ)
    line = done.stdout.splitlines()[-1]
    assert shlex.split(line)[0] == ".venv/bin/mlspan"
    with BoundedPopen(["bash", "-c", f"exec {line}"], cwd=checkout, env=environ, stdout=subprocess.PIPE) as viewer:
        assert viewer.stdout is not None
        address = viewer.stdout.readline().decode().strip()
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"<title>MLflow</title>" in answer.read()
        viewer.send_signal(signal.SIGINT)
        assert viewer.wait(30) == 0


def test_elsewhere_the_line_names_the_command(environ: dict[str, str], tmp_path: Path) -> None:
    """Outside of the checkout the path is quoted for the shell; with a server, too, the line is a next step."""
    venv = tmp_path / "an env (ü)"
    venv.symlink_to(BIN.parent)
    work = tmp_path / "work"
    work.mkdir()
    done = _run_shell(f"{shlex.quote(str(venv / 'bin/python'))} -m mlspan.cli demo", work, environ)
    assert shlex.split(done.stdout.splitlines()[-1])[0] == str(venv / "bin/mlspan")


def test_the_demo_against_a_server(environ: dict[str, str], mlflow_server: str, tmp_path: Path) -> None:
    """The last line shows the trace again."""
    command = f"{shlex.quote(str(BIN / 'mlspan'))} demo --tracking-uri {mlflow_server}"
    line = _run_shell(command, tmp_path, environ).stdout.splitlines()[-1]
    assert "invoke_agent weather assistant" in _run_shell(line, tmp_path, environ).stdout


def readme_commands() -> Iterator[str]:
    """Each line that the README tells to type at ``mlspan``."""
    yield from re.findall(r"^ {4}(mlspan .*)$", README, re.MULTILINE)


@pytest.mark.timeout(340)
def test_the_commands_of_the_readme_run(environ: dict[str, str], tmp_path: Path) -> None:
    """One after the other, in one shell, with the README's first program as app.py."""
    assert "\n    source .venv/bin/activate" in README
    assert "BIN := .venv/bin\n" in (ROOT / "Makefile").read_text()
    (tmp_path / "app.py").write_text(re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)[0])
    agent = {"gen_ai__operation__name": "invoke_agent", "gen_ai__agent__name": "kept"}
    (tmp_path / "spans.jsonl").write_text(lines(span("c3", 9, "invoke_agent kept", **agent)))
    environ["PATH"] = f"{BIN}:{environ['PATH']}"
    for line in readme_commands():
        _run_shell(line, tmp_path, environ)
    names = [trace["name"] for trace in json.loads(_run_shell("mlspan list --json", tmp_path, environ).stdout)]
    assert sorted(names) == ["chat gpt-4o-mini", "invoke_agent kept", "invoke_agent weather assistant"]


def _run_shell(line: str, folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    shell = shutil.which("bash") or "sh"
    done = subprocess.run(
        [shell, "-c", line],
        cwd=folder,
        env={**environ, "SHELL": shell},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done
