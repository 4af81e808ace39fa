"""Each page of the site in a real browser: narrow and wide, light and dark, nothing runs over, breaks or is missing."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]  # a hundred pages, on a machine that has other work

ROOT = Path(__file__).parent.parent
# Layout depends on the size alone and colours on the scheme alone, so two looks have all four. The schemes as the theme
# names them are light and dark.
LOOKS = {"default": ("narrow", 420, 900), "slate": ("wide", 1400, 900)}
# What a person would see at a glance. Text is measured by its rectangles: a word that is broken has more than one.
LOOK = """() => {
  if (document.body.innerText.match(/:(class|func|mod):/)) return ['a role of Sphinx']
  const found = [], add = (what, of) => found.push(what + ': ' + String(of).slice(0, 80))
  const page = document.scrollingElement
  if (page.scrollWidth > innerWidth) add('wider than the window', page.scrollWidth)
  for (const img of document.querySelectorAll('.md-content img')) {
    if (!img.complete || !img.naturalWidth) add('no picture', img.src)
    else if (img.getBoundingClientRect().width < Math.min(640, img.naturalWidth)) add('a picture too small', img.src)
    if (!img.closest('a[href]')) add('a picture that cannot be opened', img.src)
  }
  for (const code of document.querySelectorAll('.md-content td code')) {
    const walk = document.createTreeWalker(code, NodeFilter.SHOW_TEXT)
    for (let text; (text = walk.nextNode());)
      for (const word of text.data.matchAll(/[A-Za-z0-9]+/g)) {
        const range = document.createRange()
        range.setStart(text, word.index); range.setEnd(text, word.index + word[0].length)
        const lines = new Set([...range.getClientRects()].map(one => Math.round(one.top)))
        if (lines.size > 1) add('a broken word', code.textContent)
      }
  }
  for (const element of document.querySelectorAll('.md-content *')) {
    const style = getComputedStyle(element)
    if (element.scrollWidth > element.clientWidth + 2 && ['auto', 'scroll'].includes(style.overflowX)) {
      const told = getComputedStyle(element, '::after').content.length > 8
      if (!style.backgroundAttachment.includes('local') && !told) add('scrolls and does not show it', element.innerText)
    }
  }
  for (const cell of document.querySelectorAll('.md-content td'))
    if (cell.innerText.length > 60 && cell.clientWidth && cell.clientWidth < 110)
      add('a column too narrow', cell.innerText)
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
  const read = color => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = color; paint.fillRect(0, 0, 1, 1)
                          return [...paint.getImageData(0, 0, 1, 1).data] }
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .04 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
                                        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0)
  for (const element of document.querySelectorAll('.md-content :is(p, li, td, a.md-button)')) {
    if (!element.innerText.trim() || !element.offsetParent) continue
    let behind = element
    while (behind && read(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement
    const back = behind ? getComputedStyle(behind).backgroundColor : 'white'
    const [a, b] = [light(read(getComputedStyle(element).color)), light(read(back))].sort((x, y) => y - x)
    if ((a + .05) / (b + .05) < 4.5) add('text that is hard to read', element.innerText)
  }
  return [...new Set(found)]
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The address of the site, and the paths of its pages; of the examples, which look the same, one."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "true"}
    subprocess.run(command, cwd=ROOT, env=env, check=True, timeout=400)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    serving = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    serving.start()
    paths = sorted(page.parent.relative_to(folder).as_posix() for page in folder.rglob("index.html"))
    examples = [path for path in paths if path.startswith("examples/")]
    yield f"http://127.0.0.1:{server.server_port}", [path for path in paths if path not in examples[1:]]
    server.shutdown()
    server.server_close()
    serving.join(10)


def look(page: Any) -> list[str]:
    """Return what is wrong with the page that is open: narrow and wide, light and dark."""
    found = []
    page.add_style_tag(content="* {transition: none !important}")  # a button fades from one scheme to the other
    for scheme, (name, width, height) in LOOKS.items():
        page.evaluate("name => document.body.setAttribute('data-md-color-scheme', name)", scheme)
        page.set_viewport_size({"width": width, "height": height})
        found += [f"{name}, {scheme}: {problem}" for problem in page.evaluate(LOOK)]
    return found


def test_every_page_is_fit_to_be_seen(browser: Any, site: tuple[str, list[str]]) -> None:
    """No page is wider than its window, no picture is missing or tiny, no name is broken, no text is faint."""
    address, paths = site
    assert len(paths) > 60
    page, found = browser.new_page(), {}
    page.set_default_timeout(60_000)
    for path in paths:
        page.goto(f"{address}/{path}/")
        if problems := look(page):
            found[path] = problems
    page.close()
    assert found == {}


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("pre > code {background: none !important}", "scrolls and does not show it"),
        ("td + td {display: block; width: 100px}", "a column too narrow"),
        (".md-content p {width: 2000px}", "wider than the window"),
        ("td code {word-break: break-all !important} td {max-width: 3em; display: inline-block}", "a broken word"),
        (".md-typeset .picture img {width: 200px !important}", "a picture too small"),
        (".md-typeset td {color: #999 !important; background: #888 !important}", "text that is hard to read"),
    ],
)
def test_what_is_unfit_is_seen(style: str, said: str, browser: Any, site: tuple[str, list[str]]) -> None:
    """A style that spoils the page is reported."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{site[0]}/cli/")
    page.add_style_tag(content=style)
    found = look(page)
    page.close()
    assert [problem for problem in found if said in problem] != []


def test_a_missing_picture_is_seen(browser: Any, site: tuple[str, list[str]]) -> None:
    """Also one that cannot be opened by a tap."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{site[0]}/cli/")
    page.evaluate("""() => new Promise(done => {
        const img = document.createElement('img'); img.onerror = done; img.src = '/nowhere.png'
        document.querySelector('.md-content article').append(img) })""")
    found = look(page)
    page.close()
    assert [problem for problem in found if "no picture" in problem] != []
    assert [problem for problem in found if "cannot be opened" in problem] != []


def test_the_header_has_version_and_changelog(browser: Any, site: tuple[str, list[str]]) -> None:
    """The link leads to the changelog from any depth."""
    from mlspan._version import __version__

    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(f"{site[0]}/integrations/openai/")
    page.get_by_text(f"{__version__} · Changelog").first.click()
    page.wait_for_url("**/changelog/")
    assert page.locator("h1").inner_text().startswith("Changelog")
    page.close()
