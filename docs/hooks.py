"""What MkDocs adds to the pages here: what the code itself says, the examples, the changelog, and ``llms.txt``."""

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

from mlspan._version import __version__

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PICTURE = re.compile(r'(?<!"picture">)<img [^>]*?src="([^"]+)"[^>]*>')
CELL = re.compile(r"<td.*?</td>", re.DOTALL)
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>)")  # Sphinx's, which docstrings have
CODE = re.compile(r"<code>([^<]*)</code>")
STACKED = re.compile(r'<div class="stacked">.*?</div>', re.DOTALL)  # tables that become blocks on a narrow screen


def on_config(config: Any) -> None:
    """Tell the header the version, as docs/theme/partials/source.html shows it."""
    config.extra["version"] = __version__
    config.repo_url = "changelog/"  # the theme shows the partial only where there is one


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
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=changelog))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """In the repository an example is a file, here it is a page."""
    here = posixpath.dirname(page.file.src_uri)

    def to_page(link: re.Match[str]) -> str:
        return "](" + posixpath.relpath(f"examples/{link[1] or 'index'}.md", here or ".") + ")"

    markdown = markdown.replace("```text\n", "``` {.text .wrapped}\n")  # lines of output: no width is theirs
    return re.sub(r"\]\((?:\.\./)+examples/(?:(\w+)\.py)?\)", to_page, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Let a tap open a picture, let names in tables break, name the columns of tall tables, drop Sphinx's roles."""
    html = ROLE.sub("", html)
    html = STACKED.sub(lambda block: _name_columns(block[0]), html)
    html = PICTURE.sub(lambda found: f'<a class="picture" href="{found[1]}">{found[0]}</a>', html)
    return CELL.sub(lambda cell: CODE.sub(lambda code: _allow_breaks(code[1]), cell[0]), html)


def _name_columns(html: str) -> str:
    """Write the heading of its column into each cell, for where the headings are not shown."""
    names = [re.sub(r"<[^>]+>", "", name).strip() for name in re.findall(r"<th[^>]*>(.*?)</th>", html, re.DOTALL)]

    def name_cells(row: re.Match[str]) -> str:
        column = iter(names)
        return re.sub("<td", lambda _: f'<td data-column="{name}"' if (name := next(column, "")) else "<td", row[0])

    return re.sub(r"<tr>.*?</tr>", name_cells, html, flags=re.DOTALL)


def _allow_breaks(text: str) -> str:
    return "<code>" + re.sub(r"(?<=[\w)])([._/,=]+)(?=\w)", r"\1<wbr>", text) + "</code>"


def on_nav(nav: Any, **_: Any) -> None:
    """Keep the order of the menu, for ``llms.txt``."""
    _PAGES[:] = nav.pages


def on_post_build(config: Any) -> None:
    """Write ``llms.txt``: every page of the menu with its first sentence."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", "", "## Pages", ""]
    for page in _PAGES:
        about = _find_first_sentence(page.markdown or "")
        lines.append(f"- [{page.title}]({page.url or './'}){': ' + about if about else ''}")
    Path(config.site_dir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


_PAGES: list[Any] = []


def _find_first_sentence(markdown: str) -> str:
    """Return the first sentence of the first paragraph that is prose."""
    for paragraph in re.sub(r"```.*?```", "", markdown, flags=re.DOTALL).split("\n\n"):
        text = " ".join(paragraph.split())
        if text and not re.match(r"[#|<!`>-]|\*\s|\d+\.", text) and not paragraph.startswith("    "):
            text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
            return re.split(r"(?<=[.!?]) ", text)[0]
    return ""
