"""The docs: built strictly, current with the code, and every block of Python in them runs."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from servers.endpoints import list_endpoints
from servers.scripted import Scripted

import mlspan
from mlspan.cli.arguments import find_named, read_parameters
from mlspan.cli.commands import ROOT_OPTIONS, load_command

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NEEDS = {
    "llama_index": "llama_index",
    "autogen": "autogen_agentchat",
    "ag2": "autogen",
    "crewai": "crewai",
    "dspy": "dspy",
    "bedrock": "boto3",
    "classic": "sklearn",
    "google_genai": "google.genai",
    "mcp": "mcp.server.mcpserver",
    "clients": "together",
    "claude_agent_sdk": "claude_agent_sdk",
    "agno": "agno",
    "browser_use": "browser_use",
    "haystack": "haystack",
    "instructor": "instructor",
    "litellm": "litellm",
    "smolagents": "smolagents",
    "vector-databases": "chromadb",
    "pydantic_ai": "pydantic_ai",
    "google_adk": "google.adk",
    "self_tracing": "strands",
    "mem0": "mem0",
    "django": "django",
}

NOT_RUN = re.compile(r"^<!-- not run: .+? -->$", re.MULTILINE)
SHOWN_TREE = re.compile(r"^<!-- the trace of the program above -->\n\n((?: {4}.+\n)+)", re.MULTILINE)
# A property of a Spark job; events.
NO_ATTRIBUTES = {"mlspan.carried", "mlspan.expectation", "mlspan.mlflow_assessment"}

RUN = """
import linecache, re, sys
from pathlib import Path
page, names = Path(sys.argv[1]), {"__name__": "__main__"}
text = page.read_text(encoding="utf-8")
for block in re.finditer(r"(<!-- not run: .+? -->\\n)?^```python\\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
    if not block[1]:
        above = "\\n" * text[: block.start(2)].count("\\n")
        code = above + block[2]  # some libraries read the source of a function
        linecache.cache[page.name] = len(code), None, code.splitlines(keepends=True), page.name
        exec(compile(code, page.name, "exec"), names)
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
def test_every_block_of_python_runs(
    page: Path, aimock: str, scripted: Scripted, mlflow_store: str, tmp_path: Path
) -> None:
    """Those of a page one after the other, as a reader would try them."""
    needed = NEEDS.get(page.stem)
    if needed:
        pytest.importorskip(needed)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_"))}
    env = {**keep, "MLSPAN_STRICT": "1", "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": mlflow_store}
    env |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(tmp_path), "CREWAI_DISABLE_TELEMETRY": "true"}
    env |= list_endpoints(aimock, scripted)
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
    if page.parent.name == "integrations" and len(blocks(page, "python")) > len(NOT_RUN.findall(page.read_text())):
        assert_the_program_is_traced(page, env, tmp_path)


def assert_the_program_is_traced(page: Path, env: dict[str, str], folder: Path) -> None:
    """The blocks have left a trace. If the page shows it, its spans are those of the last one."""
    command = [sys.executable, "-m", "mlspan.cli", "show", "--json"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    recorded = [(one["depth"], one["name"]) for one in json.loads(done.stdout)["spans"]]
    for tree in SHOWN_TREE.findall(page.read_text(encoding="utf-8")):
        lines = [re.match(r" {4}( *)(.+?)(?: {2,}.*)?$", line) for line in tree.splitlines()]
        assert [(len(line[1]) // 2, line[2]) for line in lines if line] == recorded


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
    for name, *arguments in commands(page):
        command = {} if name.startswith("-") else load_command(name)
        functions = command.values() if isinstance(command, Mapping) else [command]
        known = {"--help", "-h", "-v", *(ROOT_OPTIONS if name.startswith("-") else ())}
        known |= {option for function in functions for option in find_named(read_parameters(function))}
        used = [argument.partition("=")[0] for argument in [name, *arguments] if argument.startswith("-")]
        if name == "run":  # what follows the script is the script's own
            used = [option for option in used if option in known]
        assert [option for option in used if option not in known] == [], (named(page), name)


BROKEN = {  # what is wrong: the file, what stands there, what stands there then, and what the build says of it
    "a page that is not there": ("mkdocs.yml", "own: spans.md", "own: nowhere-1.md", "nowhere-1.md"),
    "a page that is in no menu": ("mkdocs.yml", "      - Feedback: feedback.md\n", "", "feedback.md"),
    "a dead link": ("docs/otlp.md", "\n## ", "\n[dead](nowhere-2.md)\n\n## ", "nowhere-2.md"),
    "a dead anchor": ("docs/mlflow.md", "\n## ", "\n[dead](otlp.md#nowhere-3)\n\n## ", "nowhere-3"),
    "a link in an example": ("examples/openai_chat.py", '"""', '"""See [dead](nowhere-4.md). ', "nowhere-4.md"),
}


def test_what_is_broken_does_not_build(site: Path) -> None:
    """``make docs`` fails, and says each thing that is wrong and where."""
    for name, old, new, _ in BROKEN.values():
        text = (site / name).read_text(encoding="utf-8")
        assert old in text
        (site / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    done = build(site)
    assert done.returncode != 0
    assert [what for what, (*_, said) in BROKEN.items() if said not in done.stderr] == []


@pytest.mark.parametrize("broken", ["ruff", "mypy", "lint-imports"])
def test_lint_fails_with_each_of_its_tools(broken: str, tmp_path: Path) -> None:
    """No pipe and no list of commands hides the exit code of one."""
    for name in ("ruff", "mypy", "lint-imports"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name}\nexit {int(name == broken)}\n")
        (tmp_path / name).chmod(0o755)
    command = ["make", "-f", ROOT / "Makefile", "-o", ".venv/.test", "lint", f"BIN={tmp_path}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert broken in done.stdout.split()
    assert done.returncode != 0


def test_a_broken_contract_is_seen(tmp_path: Path) -> None:
    """An import that runs upwards fails the lint of imports."""
    tool = Path(sys.executable).parent / "lint-imports"
    if not tool.exists():
        pytest.skip("import-linter is not installed here")
    shutil.copytree(ROOT / "mlspan", tmp_path / "mlspan", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "mlspan/_version.py").open("a") as file:
        file.write("\nimport mlspan.cli\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [tool, "--no-cache"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode != 0
    assert "mlspan._version -> mlspan.cli" in done.stdout


def test_what_the_code_says_is_current() -> None:
    """``python docs/reference.py`` has been run since the records or the settings have changed."""
    sys.path.insert(0, str(DOCS))
    try:
        import reference
    finally:
        sys.path.remove(str(DOCS))
    for name in reference.PAGES:
        assert (DOCS / name).read_text(encoding="utf-8") == reference.page(name), f"python docs/reference.py: {name}"


def test_the_page_of_attributes_has_every_name_of_our_own() -> None:
    """A name that the code writes and the page lacks is found."""
    page = (DOCS / "attributes.md").read_text(encoding="utf-8")
    source = Path(mlspan.__file__).parent
    modules = {".".join(("mlspan", *path.relative_to(source).with_suffix("").parts)) for path in source.rglob("*.py")}
    modules |= {name.rpartition(".")[0] for name in modules}
    written = {
        node.value
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"mlspan\.[a-z_0-9.]*[a-z0-9]", node.value)
    }
    assert len(written) > 100
    missing = {name for name in written - modules - NO_ATTRIBUTES if f"`{name}" not in page}
    assert missing == set()


def test_the_table_of_other_tracers_is_current() -> None:
    """``python docs/beside_table.py`` has been run since the matrix has measured."""
    sys.path.insert(0, str(DOCS))
    try:
        import beside_table as page
    finally:
        sys.path.remove(str(DOCS))
    assert page.PAGE.read_text(encoding="utf-8") == page.build_page(), "python docs/beside_table.py"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of all that the site is made of, to break."""
    pytest.importorskip("mkdocs")
    for folder in ("docs", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name in ("mkdocs.yml", "Makefile", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def build(site: Path) -> subprocess.CompletedProcess[str]:
    """Run ``make docs`` in *site*, with the tools of this environment."""
    command = ["make", "-o", ".venv/.test", "docs", f"BIN={Path(sys.executable).parent}"]
    return subprocess.run(command, cwd=site, capture_output=True, text=True, timeout=170, check=False)


def test_it_builds(site: Path) -> None:
    """Without a warning: every link, anchor and page of the navigation is there."""
    tmp_path, done = site, build(site)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for built in ("examples/openai_chat/index.html", "changelog/index.html", "404.html"):
        assert (tmp_path / "site" / built).exists()
    listed = re.findall(r"^- \[.+?\]\((.+?)\)", (tmp_path / "site/llms.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) > 50
    assert [path for path in listed if not (tmp_path / "site" / path / "index.html").exists()] == []
    html = [page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")]
    assert [found for text in html for found in re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css))"', text)] == []


@pytest.mark.parametrize("package", ["tracing", "hooks", "testing"])
def test_the_reference_has_every_public_name(package: str) -> None:
    """What ``__all__`` lists stands in docs/api, and nothing that it does not list."""
    module = importlib.import_module(f"mlspan.{package}")
    text = (DOCS / f"api/{package}.md").read_text(encoding="utf-8")
    listed = re.findall(r"members: \[(.*?)\]", text)
    names = re.split(r", *", listed[0]) if listed else re.findall(rf"::: mlspan\.{package}\.(\w+)", text)
    assert sorted(names) == sorted(module.__all__)


def find_dead_links(text: str) -> list[str]:
    """Return the files that *text*, a page in the root of the repository, links to and that are not there."""
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text)
    return [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=named)
def test_links_of_the_repository(page: Path) -> None:
    """MkDocs checks those of the site; these are read in the repository."""
    assert find_dead_links(page.read_text(encoding="utf-8")) == []


def list_integrations(page: Path) -> list[list[str]]:
    """Return the cells of the page's table of integrations, as text without links."""
    rows = re.findall(r"^\| (.+) \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [[re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", cell) for cell in row] for row in rows]
    kinds = ("clients of models", "models in your process", "frameworks and agents", "tools and memory", "training")
    return [row for row in plain if row[0] in kinds]


def test_the_home_page_lists_what_the_readme_lists() -> None:
    """A new integration stands in both."""
    listed = list_integrations(ROOT / "README.md")
    assert len(listed) == 5
    assert list_integrations(DOCS / "index.md") == listed


def test_a_dead_link_in_the_repository_is_seen() -> None:
    """A file that is not there, with an anchor and without, as a picture too."""
    text = "[a](docs/start.md) ![b](docs/images/no.png) [c](docs/no.md#x) [d](https://example.com) [e](#here)"
    assert find_dead_links(text) == ["docs/images/no.png", "docs/no.md"]
