"""Every private name of another library that the sources use is listed beside its use, with what is lost without it."""

from __future__ import annotations

import ast
from typing import Final

import pytest
from private_uses import ROOT, Use, find_uses, list_own_names, read_lists

# What looks private and is none: names of ours on foreign objects, what Python documents, and texts of other kinds.
NOT_PRIVATE: Final = {
    **dict.fromkeys(("_mlspan_on", "_mlspan_from", "_mlspan_", "_mlspan"), "our marks"),
    "_mlspan_handled": "our mark on a responder of MCP's",
    "_meta": "a key of MCP's requests",
    **dict.fromkeys(("_replace", "_fields"), "a named tuple's, which Python documents"),
    "_value_": "an enumeration's, which Python documents",
    "_self_how": "a field of wrapt's proxies, which wrapt documents as the proxy's own",
    "_OTHER": "the conventions' error type",
    "_at_": "what MLflow's flavors write for @ in the names of metrics",
    "_type": "a key of LangChain's public parameters",
    "_typeshed": "types for type checkers, which no program imports",
    "_score": "a key of a document's metadata",
    "_task": "a module of ours, imported by its full name in a worker",
    "_spark_daemon": "a module of ours",
}
# Patch points whose targets are put together: test_patch_points.py takes them away, or the nox session of the library.
PATCH_POINTS: Final = {
    "_generate_content",
    "_generate_content_stream",
    "_first",
    "_process_send",
    "_process_publish",
    "_map_async",
    "_show_string",
    "_single_threaded_agent_runtime",
}
TREES: Final = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}
OWN: Final = list_own_names(list(TREES.values()))
USES: Final = [
    use
    for path, tree in TREES.items()
    for use in find_uses(tree, path, OWN)
    if use.name not in NOT_PRIVATE.keys() | PATCH_POINTS
]
LISTED: Final = {path: read_lists(tree) for path, tree in TREES.items()}


def is_listed(use: Use) -> bool:
    """Return whether the module of *use* lists the name, or a neighbour in its package, which is not the root."""
    neighbours = [use.path] if use.path.parent == ROOT else use.path.parent.glob("*.py")
    return any(use.name in LISTED[path] for path in neighbours)


def test_every_private_name_is_listed() -> None:
    assert [str(use) for use in USES if not is_listed(use)] == []
    assert len({use.name for use in USES}) > 80


def test_what_is_listed_is_used() -> None:
    """A name that is used no more leaves its list; names that we have too are found as text."""
    used = {(use.name, use.path.parent) for use in USES}
    left = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, names in LISTED.items()
        for name in names
        if (name, path.parent) not in used and path.read_text(encoding="utf-8").count(name) < 2
        if not any(
            f"{name}" in other.read_text(encoding="utf-8") for other in path.parent.glob("*.py") if other != path
        )
    ]
    assert left == []


def test_each_says_what_is_lost() -> None:
    assert [f"{path}: {name}" for path, names in LISTED.items() for name, lost in names.items() if not lost] == []


@pytest.mark.parametrize(
    "code",
    [
        "span._hidden",
        "getattr(provider, '_hidden')",
        "read(owner, '_hidden.name')",
        "from library._hidden import name",
        "from library import _hidden",
        "import library._hidden",
    ],
)
def test_a_use_is_found(code: str) -> None:
    """The check can fail."""
    assert [use.name for use in find_uses(ast.parse(code), ROOT, OWN)] == ["_hidden"]
    assert list(find_uses(ast.parse(f"def f():\n    '''{code}'''"), ROOT, OWN)) == []
