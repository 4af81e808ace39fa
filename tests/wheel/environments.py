"""Environments that hold the wheel and what it asks for: one for each Python of this machine, kept between runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PYTHONS: Final = ("3.10", "3.11", "3.12", "3.13")  # as in the classifiers
_KEPT: Final = ROOT / ".nox"
_PACKED: Final = ("mlspan", "pyproject.toml", "README.md", "LICENSE")
_HALF: Final = "__pycache__"


def find_python(version: str) -> Path | None:
    """Return an interpreter of this *version* such as ``"3.12"`` that makes environments, of pyenv or on the path."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    here = [Path(sys.executable)] if version == f"{sys.version_info[0]}.{sys.version_info[1]}" else []
    on_path = shutil.which(f"python{version}")
    found = [*sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True), *([Path(on_path)] if on_path else []), *here]
    return next((python for python in found if _is_whole(python, version)), None)


def _is_whole(python: Path, version: str) -> bool:
    """Tell whether it starts, which a shim of pyenv may not, and brings what its own builder may have left out."""
    code = "import ensurepip, sqlite3, ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() == version


def build_wheel(python: Path) -> Path:
    """Return the wheel of this checkout, built by pip; the last one, where nothing in it has changed."""
    folder = _KEPT / "wheel" / _digest_of(_files())
    if not list(folder.glob("*.whl")):
        shutil.rmtree(folder.parent, ignore_errors=True)
        _run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(python: Path, version: str, wheel: Path, extras: str, *more: str, by_pip: bool = False) -> Path:
    """Return the interpreter of an environment with *wheel*, its *extras* as in ``"mlflow,openai"``, and *more*.

    What the wheel needs is installed anew when the metadata of the project changes, the wheel itself whenever it does.
    """
    folder = _KEPT / f"wheel-{version}-{'pip' if by_pip else 'uv'}-{extras.replace(',', '-') or 'bare'}"
    mine, needs = folder / "bin/python", folder / ".needs"
    wanted = _digest_of([(name, name.encode()) for name in (extras, *more)] + _files("pyproject.toml"))
    if not needs.exists() or needs.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        _make(python, folder, by_pip=by_pip)
        _install(mine, f"{wheel}[{extras}]" if extras else str(wheel), *more, by_pip=by_pip)
        needs.write_text(wanted)
    elif (folder / ".holds").read_text() != str(wheel):
        _install(mine, "--no-deps", "--force-reinstall", str(wheel), by_pip=by_pip)
    (folder / ".holds").write_text(str(wheel))
    return mine


def _make(python: Path, folder: Path, *, by_pip: bool) -> None:
    _run(python, "-m", "venv", *([] if by_pip else ["--without-pip"]), folder)


def _install(python: Path, *what: str, by_pip: bool) -> None:
    """By pip, or by uv, which installs the same in a tenth of the time."""
    uv = shutil.which("uv", path=f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    if by_pip:
        _run(python, "-m", "pip", "install", "--quiet", *what)
    elif uv is None:
        _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *what)
    else:
        _run(uv, "pip", "install", "--quiet", "--python", python, *what)


def _run(*command: str | Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"


def _files(*names: str) -> list[tuple[str, bytes]]:
    """Read what goes into the wheel, or what is named."""
    paths = [path for name in names or _PACKED for path in (ROOT / name, *sorted((ROOT / name).rglob("*")))]
    return [(str(path), path.read_bytes()) for path in paths if path.is_file() and _HALF not in path.parts]


def _digest_of(files: Iterable[tuple[str, bytes]]) -> str:
    made = hashlib.sha256()
    for name, content in files:
        made.update(f"{name} {len(content)}\n".encode() + content)
    return made.hexdigest()[:16]
