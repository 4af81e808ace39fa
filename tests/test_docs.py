"""The docs: built strictly, current with the code, and every block of Python in them runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mlspan.cli.app import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# Pages that others are writing: until they are here, an empty one stands in for each.
PENDING = {"durability", "mlflow", "classic", *(f"integrations/{name}" for name in ("llama_index", "autogen", "ag2"))}
NEEDS = {"llama_index": "llama_index", "autogen": "autogen_agentchat", "ag2": "autogen", "classic": "sklearn"}

RUN = """
import re, sys
from pathlib import Path
page, names = Path(sys.argv[1]), {"__name__": "__main__"}
text = page.read_text(encoding="utf-8")
for block in re.finditer(r"(<!-- not run: .+? -->\\n)?^```python\\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
    if not block[1]:
        above = "\\n" * text[: block.start(2)].count("\\n")
        exec(compile(above + block[2], page.name, "exec"), names)
from mlspan import tracing
assert tracing.flush(60)
"""


def blocks(page: Path, *languages: str) -> list[str]:
    return re.findall(
        rf"^```(?:{'|'.join(languages)})\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_every_block_of_python_runs(page: Path, aimock: str, mlflow_store: str, tmp_path: Path) -> None:
    """Those of a page one after the other, as a reader would try them."""
    needed = NEEDS.get(page.stem)
    if needed:
        pytest.importorskip(needed)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**keep, "OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "test", "MLSPAN_STRICT": "1", "PYTHONPATH": str(ROOT)}
    env |= {"MLFLOW_TRACKING_URI": mlflow_store}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(page)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mlspan:" not in done.stderr, done.stderr


def commands(page: Path) -> Iterator[list[str]]:
    """Each ``mlspan ...`` of a page's shell lines."""
    shell = "\n".join(blocks(page, "bash", "sh", "console", "shell"))
    shell += "\n".join(re.findall(r"^ {4}(mlspan .*)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    for line in shell.splitlines():
        if line.startswith("mlspan "):
            yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_is_one(page: Path) -> None:
    """The command line knows each command and option that a page shows."""
    group: Any = typer.main.get_command(app)
    for name, *arguments in commands(page):
        options = group if name.startswith("-") else group.commands[name]
        known = {option for parameter in options.params for option in parameter.opts + parameter.secondary_opts}
        used = [argument.partition("=")[0] for argument in [name, *arguments] if argument.startswith("-")]
        if name == "run":  # what follows the script is the script's own
            used = [option for option in used if option in known]
        assert [option for option in used if option not in known] == [], (named(page), name)


def test_what_the_code_says_is_current() -> None:
    """``python docs/reference.py`` has been run since the records or the settings have changed."""
    sys.path.insert(0, str(DOCS))
    try:
        import reference
    finally:
        sys.path.remove(str(DOCS))
    for name in reference.PAGES:
        assert (DOCS / name).read_text(encoding="utf-8") == reference.page(name), f"python docs/reference.py: {name}"


def test_it_builds(tmp_path: Path) -> None:
    """Without a warning: every link, anchor and page of the navigation is there."""
    pytest.importorskip("mkdocs")
    for folder in ("docs", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for name in PENDING:
        page = tmp_path / f"docs/{name}.md"
        if not page.exists():
            page.write_text(f"# {name}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", "site"],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "true"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert (tmp_path / "site/examples/openai_chat/index.html").exists()
    html = [page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")]
    assert [found for text in html for found in re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css))"', text)] == []
