"""The page of all integrations says what the code says: who is there, from which version, with which links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from mlspan import integrations

ROOT: Final = Path(__file__).parent.parent
CODE: Final = ROOT / "mlspan/integrations"
PAGE: Final = (ROOT / "docs/integrations/index.md").read_text(encoding="utf-8")
# The pages with the versions of those of which the gallery says "as in its table".
TABLES: Final = ("docs/integrations/clients.md", "docs/integrations/vector-databases.md")
SELF_TRACING: Final = ("self_tracing.md", "pydantic_ai.md", "google_adk.md")
OTHER_FILES: Final = {"langgraph": ["langchain/langgraph_edges.py"], "openai": ["openai/agents.py"]}
LINKS: Final = re.compile(r"\b(?:handed_off_by|resumes|triggered_by)\b")


def read_rows() -> dict[str, list[list[str]]]:
    """Return the cells of the rows of each integration."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")
    ]
    found: dict[str, list[list[str]]] = {}
    for row in rows:
        for name in re.findall(r"`(\w+)`", " ".join(row[:2])):
            found.setdefault(name, []).append(row)
    return found


ROWS: Final = read_rows()
FRAMEWORKS: Final = {
    name: row for name, rows in ROWS.items() for row in rows if len(row) == 5 and row[0].startswith(f"[`{name}`")
}


def list_hooks() -> dict[str, str]:
    """Return what each integration requires of its library."""
    found = ((name, getattr(getattr(integrations, name), "HOOK", None)) for name in integrations.__all__)
    return {name: hook.requires for name, hook in found if hook is not None}


def read_code(name: str) -> str:
    """Return the source of an integration; LangGraph's is a part of LangChain's."""
    files = [CODE / one for one in OTHER_FILES.get(name, ())] or [*CODE.glob(f"{name}.py"), *(CODE / name).glob("*.py")]
    return "\n".join(
        one.read_text(encoding="utf-8") for one in files if name == "langgraph" or one.stem != "langgraph_edges"
    )


@pytest.mark.parametrize("name", list_hooks())
def test_each_integration_has_a_row_with_its_versions(name: str) -> None:
    """The lowest version that its hook lets in is there, or in the table to which the row leads."""
    requires = list_hooks()[name]
    found = re.search(r"([\w-]+)>=([\d.]+),<", requires)
    assert found is not None
    library, lowest = found.groups()
    where = " ".join(row[-1] for row in ROWS[name])
    if "in its tables" in where:
        return  # trainings: the page names the versions that were run, and the hook lets in older ones
    if "in its table" in where:
        where = "\n".join((ROOT / one).read_text(encoding="utf-8") for one in TABLES)
    assert re.search(rf"(?<![\d.]){re.escape(lowest)}(?:\.0)*(?![\d])", where), (library, lowest, where[:200])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_frameworks_links_and_session_are_those_of_its_code(name: str) -> None:
    """A link that is named is made, and one that is made is named; so is the framework's own session."""
    code, (_, _, session, links, _) = read_code(name), FRAMEWORKS[name]
    if any(page in FRAMEWORKS[name][0] for page in SELF_TRACING):
        assert links == ""
        return
    assert set(links.split(", ")) - {"asked_by", ""} == set(LINKS.findall(code))
    assert bool(session) == bool(re.search(r"\bconversation\s*=(?!=)|CONVERSATION_ID\]? =", code)), session
