"""The page of each integration, and each example, tells a newcomer all that its program needs."""

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
    "azure.ai.inference": "azure-ai-inference",
    "azure.core": "azure-ai-inference",
    "cerebras": "cerebras-cloud-sdk",
    "fireworks": "fireworks-ai",
    "perplexity": "perplexityai",
    "autogen_ext.models.openai": "autogen-ext",
    "google.adk": "google-adk",
    "google.genai": "google-genai",
    "haystack": "haystack-ai",
    "llama_index.core": "llama-index-core",
    "llama_index.embeddings.openai": "llama-index-embeddings-openai",
    "llama_index.llms.openai": "llama-index-llms-openai",
    "livekit.agents": "livekit-agents",
    "livekit.plugins.openai": "livekit-plugins-openai",
    "mem0": "mem0ai",
    "paddle": "paddlepaddle",
    "pipecat": "pipecat-ai",
    "agent_framework": "agent-framework-core",
    "agent_framework.openai": "agent-framework-openai",
    "pydantic_ai": "pydantic-ai-slim",
    "sklearn": "scikit-learn",
    "strands": "strands-agents",
}
BRINGS: Final = {  # what comes with what a page installs
    "ag2": ["autogen"],
    "chromadb": ["numpy"],
    "deepagents": ["langchain", "langchain-core", "langgraph"],
    "instructor": ["openai", "pydantic"],
    "langchain": ["langgraph"],
    "langgraph": ["langchain-core"],
    "lightning": ["torch"],
    "llama-index-llms-openai": ["openai"],
    "mem0ai": ["openai", "qdrant-client"],
    "mlflow": ["numpy", "pandas", "scikit-learn"],
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


EXAMPLES: Final = {path.stem: path for path in sorted((ROOT / "examples").glob("*.py"))}
KEYS: Final = {  # the variable that each client reads its key from
    "anthropic": "ANTHROPIC_API_KEY",
    "google.genai": "GEMINI_API_KEY",
    "google.adk": "GEMINI_API_KEY",
    "boto3": "AWS_DEFAULT_REGION",
    "openai": "OPENAI_API_KEY",
    "litellm": "OPENAI_API_KEY",
    "together": "TOGETHER_API_KEY",
    "mem0": "OPENAI_API_KEY",
    "pydantic_ai": "OPENAI_API_KEY",
    "langchain_openai": "OPENAI_API_KEY",
    "llama_index.llms.openai": "OPENAI_API_KEY",
    "strands": "OPENAI_API_KEY",
    "livekit": "OPENAI_API_KEY",
    "pipecat": "OPENAI_API_KEY",
    "semantic_kernel": "OPENAI_API_KEY",
    "agent_framework": "OPENAI_API_KEY",
}
NO_KEY: Final = re.compile(r"\bno (?:model|key|server)|needs? no\b", re.IGNORECASE)
INDEX: Final = (FOLDER / "index.md").read_text("utf-8")
CLIENTS: Final = ("azure_ai_inference", "cerebras", "cohere", "fireworks", "groq", "huggingface_hub", "mistralai")
CLIENTS += ("ollama", "perplexity", "together", "xai_sdk")


def find_keys(code: str) -> set[str]:
    """Return the variables that the clients which a program imports read their keys from."""
    imported = set(list_imports(f"```python\n{code}```\n"))
    return {key for name, key in KEYS.items() if any(f"{one}.".startswith(f"{name}.") for one in imported)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_page_names_the_key_of_its_program(name: str) -> None:
    """Who has a key is told the variable; who has none is told so before the traceback."""
    text = PROGRAMS[name].read_text("utf-8")
    needed = set().union(*map(find_keys, BLOCK.findall(text)))
    assert not needed or any(key in text for key in needed), f"{name}: {needed} is not named"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_page_says_how_to_see_the_trace(name: str) -> None:
    """The program is run, and then? The page names the command that shows what it has recorded."""
    text = PROGRAMS[name].read_text("utf-8")
    assert "mlspan show" in text or "mlspan list" in text


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_page_traces_and_prints(name: str) -> None:
    """A program that is typed in alone turns the tracing on, ends with words, and sends its spans to MLflow."""
    first, *others = BLOCK.findall(PROGRAMS[name].read_text("utf-8"))
    assert "print(" in first or name in SPEAK
    assert "testing.spans(" not in first, "what a test collects is not sent, so there is no trace to look at"
    whole = [block for block in (first, *others) if find_keys(block)]
    assert all("autolog(" in block for block in whole), f"{name}: a program that calls a model and leaves no trace"


SPEAK: Final = {"ag2", "google_adk", "self_tracing", "smolagents"}  # what they run prints its answer itself


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_it_needs(name: str) -> None:
    """Its docstring has the line that installs what it imports, the key, and the command that shows the trace."""
    code = EXAMPLES[name].read_text("utf-8")
    said = ast.get_docstring(ast.parse(code)) or ""
    line = " ".join(said.split())
    told = "\n".join(f"pip install {one}" for one in re.findall(r"pip install ([^`]+)``", line))
    assert find_missing(f"{told}\n```python\n{code}```\n") == set(), f"{name}: not installed by {told!r}"
    assert "mlspan show" in said or "mlspan ui" in said or "mlspan list" in said
    assert "mlflow ui" not in said, "MLflow's own command looks where MLflow's defaults point, not where traces went"
    keys = find_keys(code)
    assert not keys or any(key in said for key in keys) or NO_KEY.search(said), f"{name}: {keys} is not named"


@pytest.mark.parametrize("path", [*PROGRAMS.values(), *EXAMPLES.values()], ids=lambda path: path.name)
def test_a_program_names_no_model_that_its_client_calls_retired(path: Path) -> None:
    """Anthropic's client lists the models that end; a newcomer's first call must not be to one of them."""
    messages = pytest.importorskip("anthropic.resources.messages.messages")
    text = path.read_text("utf-8")
    found = {one for one in messages.DEPRECATED_MODELS if re.search(rf"{one}(?![-\w])", text)}
    assert found == set()


@pytest.mark.parametrize("name", CLIENTS)
def test_each_client_has_its_line(name: str) -> None:
    """The page of the many clients has one program; the others have what to install, the key and a call to copy."""
    text = (FOLDER / "clients.md").read_text("utf-8")
    extra = name.replace("_", "-")
    rows = re.findall(rf"^\| `{extra}` \| (.+?) \| `(.+)` \|$", text, re.MULTILINE)
    rows = [(reads, call) for reads, call in rows if "import " in call]
    assert len(rows) == 1, f"no line with a call for the extra {extra}"
    assert re.search("KEY|TOKEN|HOST", rows[0][0])
    installs = f"pip install '.[mlflow,{extra}]'\n"
    assert find_missing(f"{installs}```python\n{rows[0][1]}\n```\n") == set()


def test_a_newcomer_without_a_key_is_told_what_to_do() -> None:
    """The page that all others lead to has a section on it, with the variables that lead a client elsewhere."""
    section = INDEX.partition("## Without a key")[2].partition("\n## ")[0]
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "aimock"):
        assert name in section, name


LIBRARIES: Final = ("sklearn", "xgboost", "lightgbm", "statsmodels", "keras", "tensorflow", "lightning", "spark")
LIBRARIES += ("paddle", "fastai", "gluon", "optuna", "hyperopt", "ray")


@pytest.mark.parametrize("name", LIBRARIES)
def test_each_library_of_trainings_has_its_line(name: str) -> None:
    """The page has a program to type in, and for each library what to install and its example."""
    text = (ROOT / "docs/classic.md").read_text("utf-8")
    assert find_missing(text) == set()
    rows = [line for line in text.splitlines() if line.startswith(f"| `{name}` | `pip install")]
    assert len(rows) == 1, "no line that says what to install"
    shown = re.search(r"examples/(\w+)\.py", rows[0])
    assert shown
    assert shown[1] in EXAMPLES


def test_the_first_step_has_nothing_to_choose() -> None:
    """Who starts installs, and goes on: what can be left out is told after the last step."""
    first = (ROOT / "docs/start.md").read_text("utf-8").partition("## 1.")[2].partition("\n## ")[0]
    assert "pip install" in first
    assert "\n|" not in first
