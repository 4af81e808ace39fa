"""The page of each integration tells a newcomer all that its program needs."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "docs/integrations"
BLOCK: Final = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INSTALL: Final = re.compile(r"pip install ([^#`\n]+)")
PROGRAMS: Final = {page.stem: page for page in sorted(FOLDER.glob("*.md")) if BLOCK.search(page.read_text("utf-8"))}
EXTRAS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
DISTRIBUTIONS: Final = {  # where the name of what is imported is not that of what is installed
    "agents": "openai-agents",
    "autogen": "ag2",
    "autogen_ext.models.openai": "autogen-ext",
    "google.adk": "google-adk",
    "google.genai": "google-genai",
    "haystack": "haystack-ai",
    "llama_index.core": "llama-index-core",
    "llama_index.embeddings.openai": "llama-index-embeddings-openai",
    "llama_index.llms.openai": "llama-index-llms-openai",
    "mem0": "mem0ai",
    "pydantic_ai": "pydantic-ai-slim",
    "strands": "strands-agents",
}
BRINGS: Final = {  # what comes with what a page installs
    "ag2": ["autogen"],
    "deepagents": ["langchain", "langchain-core", "langgraph"],
    "instructor": ["openai", "pydantic"],
    "langgraph": ["langchain-core"],
    "llama-index-llms-openai": ["openai"],
    "mem0ai": ["openai", "qdrant-client"],
}


def list_imports(text: str) -> Iterator[str]:
    """Yield the full name of each module that the blocks of a page import, without the standard library and ours."""
    for block in BLOCK.findall(text):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{one.name}" for one in node.names)
            elif isinstance(node, ast.Import):
                yield from (one.name for one in node.names)


def find_distribution(module: str) -> str:
    """Return the distribution that holds a module: the longest part of its name that the table has, or its own name."""
    parts = module.split(".")
    starts = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((DISTRIBUTIONS[one] for one in starts if one in DISTRIBUTIONS), parts[0].replace("_", "-"))


def list_installed(text: str) -> set[str]:
    """Return the distributions that the ``pip install`` lines of a page name, by our extras or directly."""
    named = [word.strip("'\"") for line in INSTALL.findall(text) for word in line.split()]
    extras = [extra for word in named if word.startswith(".[") for extra in word[2:-1].split(",")]
    required = [one for extra in extras for one in EXTRAS[extra]] + [word for word in named if word[0] != "."]
    found = {re.split(r"[\[<>=!~]", one)[0] for one in required}
    return found | {brought for one in found for brought in BRINGS.get(one, ())}


def find_missing(text: str) -> set[str]:
    """Return what a page's blocks import and its lines do not install; MLflow keeps the traces of all of them."""
    imported = {find_distribution(one) for one in list_imports(text) if one.partition(".")[0] not in OWN}
    return {*imported, "mlflow"} - list_installed(text)


OWN: Final = {"mlspan", *sys.stdlib_module_names}


def test_what_a_page_leaves_out_is_seen() -> None:
    """A page that installs less than its blocks import is found, and one that installs all is not."""
    block = "```python\nimport os\nfrom langchain_openai import ChatOpenAI\nfrom mlspan import tracing\n```\n"
    assert find_missing(f"    pip install '.[langchain]'    # here\n{block}") == {"langchain-openai", "mlflow"}
    assert find_missing(f"    pip install '.[mlflow,langchain]' langchain-openai    # here\n{block}") == set()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_page_installs_what_its_program_imports(name: str) -> None:
    """A newcomer who types what the page says gets no ModuleNotFoundError, and a trace to look at."""
    assert find_missing(PROGRAMS[name].read_text("utf-8")) == set()
