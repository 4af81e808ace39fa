"""Programs as a user would write them, and the ways in which they end. Nobody flushes, unless that is the point."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Program:
    """*code*, the *status* that it is to end with, and the *spans* that are to arrive."""

    code: str
    spans: tuple[str, ...] = ("execute_tool x",)
    status: int = 0
    is_terminated: bool = False  # by SIGTERM
    error: str = ""  # how the only traceback ends
    runs: int = 0  # how many runs MLflow then has


_SPAN: Final = 'from mlspan import tracing\nwith tracing.span("x", kind="tool"):\n    pass\n'
_CHILD: Final = """
import multiprocessing
from mlspan import tracing

def work():
    with tracing.span("child", kind="tool"):
        pass

if __name__ == "__main__":
    with tracing.span("x", kind="tool"):
        pass
    child = multiprocessing.get_context("{method}").Process(target=work)
    child.start()
    child.join()
"""
_BOTH: Final = ("execute_tool child", "execute_tool x")
ENDINGS: Final = {
    "as it comes": Program(_SPAN),
    "SIGTERM": Program(
        _SPAN + "import time\nprint('ready', flush=True)\ntime.sleep(60)\n", status=-15, is_terminated=True
    ),
    "SIGTERM at once": Program(_SPAN + "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n", status=-15),
    "sys.exit": Program(_SPAN + "import sys\nsys.exit(3)\n", status=3),
    "exception": Program(_SPAN + "raise ValueError('mine')\n", status=1, error="ValueError: mine\n"),
    "exception inside": Program(
        _SPAN.replace("pass", "raise ValueError('mine')"), status=1, error="ValueError: mine\n"
    ),
    "forked child": Program(_CHILD.format(method="fork"), spans=_BOTH),
    "spawned child": Program(_CHILD.format(method="spawn"), spans=_BOTH),
    "flush in an atexit handler": Program(
        _SPAN + "import atexit, sys\natexit.register(lambda: print('sent', bool(tracing.flush()), flush=True))\n"
    ),
    "flush in an atexit handler that was first": Program(
        "import atexit\nfrom mlspan import tracing\natexit.register(lambda: tracing.flush())\n" + _SPAN
    ),
    "first span in an atexit handler": Program(
        "import atexit\nfrom mlspan import tracing\n"
        "def late():\n    with tracing.span('x', kind='tool'):\n        pass\n"
        "    print('sent', bool(tracing.flush()))\n"
        "atexit.register(late)\n"
    ),
    "spans in an atexit handler": Program(
        "import atexit\nfrom mlspan import tracing\n"
        "@atexit.register\ndef late():\n    with tracing.span('x', kind='tool'):\n        pass\n"
    ),
    "another thread's": Program(
        "import threading\nfrom mlspan import tracing\n"
        "def work():\n    with tracing.span('x', kind='tool'):\n        pass\n"
        "threading.Thread(target=work).start()\n"
    ),
}
# What a program with MLflow tries on each Python; the rest only on 3.12, which is the strictest about threads at exit.
COMMON_ENDINGS: Final = (
    "as it comes",
    "SIGTERM",
    "sys.exit",
    "exception",
    "forked child",
    "spawned child",
    "flush in an atexit handler",
)

_CHAT: Final = """
import openai
client = openai.OpenAI()
client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}]).id
"""
_TRAIN: Final = """
from sklearn.linear_model import LinearRegression
LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]).n_features_in_
"""
_NOTEBOOK: Final = """
import sys
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

cells = {cells!r}
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
quiet = ["--log-level=ERROR"]  # of the kernel's own words, such as that it listens on TCP
# By sockets in files: two kernels that start together can be given the same port.
sockets = Config({{"KernelManager": {{"transport": "ipc"}}}})
NotebookClient(notebook, timeout=200, kernel_name="python3", config=sockets, extra_arguments=quiet).execute()
for cell in notebook.cells:
    for output in cell.outputs:
        if output.get("name") == "stderr":
            sys.stderr.write(output.text)
"""


def _make_notebook(*cells: str) -> Program:
    """Return a program that runs *cells* in a kernel of its own, and passes on what they write to stderr."""
    code = _NOTEBOOK.format(cells=["%load_ext mlspan", *cells])
    return Program(code, spans=("chat gpt-4o-mini", "fit LinearRegression", "log model"), runs=1)


NOTEBOOKS: Final = {
    "a notebook that asks, then trains": _make_notebook(_CHAT, _TRAIN),
    "a notebook that trains, then asks": _make_notebook(_TRAIN, _CHAT),
}


def read_first_program(readme: Path) -> str:
    """Return the first program of a page."""
    found = re.search(r"^```python\n(.*?)^```", readme.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]
