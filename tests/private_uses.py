"""Uses of other libraries' private names in the sources, found by their syntax; and the lists that must hold them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import mlspan

ROOT: Final = Path(mlspan.__file__).parent
LISTS: Final = ("PRIVATE_NAMES", "PRIVATE_FIELDS")
_IDENTIFIERS: Final = re.compile(r"[A-Za-z_][\w.\[\]]*")


class Use(NamedTuple):
    """A private name that no module of ours defines, and where it stands."""

    name: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} {self.name}"


def _is_private(name: str) -> bool:
    if name == "_typeshed":  # of type checkers, which have it for everybody; no program imports it
        return False
    return name.startswith("_") and not name.startswith("__") and bool(name.strip("_"))


def list_own_names(trees: list[ast.Module]) -> set[str]:
    """Return every name that the sources define: functions, classes, variables, arguments, fields, slots."""
    own: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            own.add(node.attr)
        elif isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == "__slots__" for one in node.targets
        ):
            own |= {str(one.value) for one in ast.walk(node.value) if isinstance(one, ast.Constant)}
    return own


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def find_uses(tree: ast.Module, path: Path, own: set[str]) -> Iterator[Use]:
    """Yield the private names in a module that are not *own*: read, written as text, or imported."""
    said = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    spoken = {id(value) for value in said if isinstance(value, ast.Constant)}  # docstrings
    spoken |= {id(one) for node in ast.walk(tree) if _is_list(node) for one in ast.walk(node)}
    spoken |= {id(one) for node in ast.walk(tree) for one in _list_parts(node)}
    for node in ast.walk(tree):
        if id(node) not in spoken:
            for name in _list_names(node):
                if _is_private(name) and name not in own:
                    yield Use(name, path, node.lineno)  # type: ignore[attr-defined]


def _list_parts(node: ast.AST) -> list[ast.expr]:
    """Return the texts in *node* that are parts of names: of a text that is put together, or compared in part."""
    if isinstance(node, ast.JoinedStr):
        return node.values
    methods = {"endswith", "startswith", "removesuffix", "removeprefix"}
    return node.args if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in methods else []


def _is_list(node: ast.AST) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in LISTS


def _list_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _IDENTIFIERS.fullmatch(node.value):
        return re.split(r"[.\[\]]", node.value)  # a text with a colon is a patch point, which Patch says the loss of
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [*(node.module or "").split("."), *(alias.name for alias in node.names)]
    if isinstance(node, ast.Import):
        return [part for alias in node.names for part in alias.name.split(".")]
    return []


def read_lists(tree: ast.Module) -> dict[str, str]:
    """Return the names that a module lists, each with what is lost without it; a text that is computed is empty."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if _is_list(node):
            for one in ast.walk(node.value):  # type: ignore[attr-defined]
                if isinstance(one, ast.Dict):
                    pairs = zip(one.keys, one.values, strict=True)
                    found |= {
                        str(key.value): str(getattr(value, "value", "") or getattr(value, "id", ""))
                        for key, value in pairs
                        if isinstance(key, ast.Constant)
                    }
                elif isinstance(one, ast.Tuple):  # of dict.fromkeys((name, ...), loss)
                    found |= {str(each.value): "computed" for each in one.elts if isinstance(each, ast.Constant)}
    return found
