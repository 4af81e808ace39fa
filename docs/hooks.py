"""What MkDocs adds to the pages here: what the code itself says, and the examples as pages of their own."""

from __future__ import annotations

import ast
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))

import reference

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def on_pre_build(config: Any) -> None:  # noqa: ARG001  # MkDocs calls it so
    reference.write()


def on_files(files: Any, config: Any) -> None:
    """A page for each file in examples/, and a list of them."""
    rows = []
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        about = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
        rows.append(f"| [{path.stem}]({path.stem}.md) | {' '.join(about.split())} |")
        page = f"# {path.stem}\n\n    python examples/{path.name}\n\n```python\n{text}```\n"
        files.append(File.generated(config, f"examples/{path.stem}.md", content=page))
    index = "# Examples\n\nEach is a program to copy; the tests run all of them.\n\n"
    index += "| example | what it shows |\n|---|---|\n"
    files.append(File.generated(config, "examples/index.md", content=index + "\n".join(rows) + "\n"))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """In the repository an example is a file, here it is a page."""
    here = posixpath.dirname(page.file.src_uri)

    def to_page(link: re.Match[str]) -> str:
        return "](" + posixpath.relpath(f"examples/{link[1] or 'index'}.md", here or ".") + ")"

    return re.sub(r"\]\((?:\.\./)+examples/(?:(\w+)\.py)?\)", to_page, markdown)
