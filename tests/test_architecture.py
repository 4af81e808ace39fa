"""Check that the import graph, imports inside functions included, has no circle and no import that runs upwards."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mlspan

ROOT = Path(mlspan.__file__).parent


def module_name(path: Path) -> str:
    parts = ("mlspan", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def checks_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(node: ast.AST) -> Iterator[ast.ImportFrom | ast.Import]:
    """Yield every import below *node* but those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif checks_types(child):
            for alternative in child.orelse:
                yield from imports_of(alternative)
        else:
            yield from imports_of(child)


def resolve(name: str, path: Path, node: ast.ImportFrom) -> str:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return ".".join([*parts, *([node.module] if node.module else [])])


def import_graph(root: Path = ROOT) -> dict[str, set[str]]:
    paths = {module_name(path): path for path in root.rglob("*.py")}
    graph: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = {alias.name for alias in node.names}
            else:
                base = resolve(name, path, node)
                found = {f"{base}.{alias.name}" if f"{base}.{alias.name}" in paths else base for alias in node.names}
            graph[name] |= {target for target in found if target in paths and target != name}
    return graph


def find_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
            if target in stack:
                low[name] = min(low[name], low[target])
        if low[name] == index[name]:
            at = stack.index(name)
            circle, stack[at:] = stack[at:], []
            if len(circle) > 1:
                circles.append(sorted(circle))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return circles


def test_no_circle() -> None:
    """No module is imported, however late, by what it imports itself."""
    assert find_circles(import_graph()) == []


def test_a_circle_is_found() -> None:
    """The check can fail."""
    assert find_circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_hooks_at_fork_are_listed() -> None:
    """The docstring of fork_safety names every function of ours that a fork runs, and none that is gone."""
    registered = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.register_at_fork":
                values = [keyword.value for keyword in node.keywords if not isinstance(keyword.value, ast.Lambda)]
                registered |= {ast.unparse(value).rpartition(".")[2] for value in values}
    lines = ast.get_docstring(ast.parse((ROOT / "tracing/export/fork_safety.py").read_text(encoding="utf-8"))) or ""
    listed = {name.rpartition(".")[2] for name in re.findall(r"``([\w/.]+)``", lines) if not name.endswith(".py")}
    assert registered >= {"_reset_after_fork", "handle_fork"}
    assert registered == listed - {"_SpoolForkHandler", "runtime"}


def test_files_that_docstrings_name_exist() -> None:
    """A docstring of a module that sends its reader to another file names one that is there."""
    folders = ROOT, Path(__file__).parent
    files = {path.relative_to(folder.parent).as_posix() for folder in folders for path in folder.rglob("*.py")}
    named = {
        (module_name(path), name)
        for path in ROOT.rglob("*.py")
        for name in re.findall(r"``([\w/]+\.py)(?:``|:)", ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
    }
    assert {module for module, _ in named} >= {"mlspan.integrations.langgraph", "mlspan.hooks.catalog"}
    assert [pair for pair in sorted(named) if not any(f"/{file}".endswith(f"/{pair[1]}") for file in files)] == []
