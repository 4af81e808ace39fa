"""What ``mlspan run`` becomes: a script or module run as Python itself would, with tracing on.

A process of its own, so that nothing of the command line is in it. Called as ``python -m mlspan.cli.launch KIND NAME
ARGS...``, with ``script`` or ``module`` for KIND.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import TracebackType

from .. import integrations


def main() -> None:
    kind, name, *arguments = sys.argv[1:]
    integrations.autolog()
    sys.argv = [name, *arguments]
    sys.excepthook = _trimmed
    if kind == "module":
        _first_on_path(Path.cwd())
        if not _exists(name):
            sys.exit(f"mlspan run: there is no module {name}")
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        if Path(name).is_file():  # of a folder or a zip file, runpy itself puts it first
            _first_on_path(Path(name).resolve().parent)
        runpy.run_path(str(Path(name).absolute()), run_name="__main__")  # as Python has it since 3.9


def _first_on_path(folder: Path) -> None:
    """As Python does for what it starts; ``-m`` has put the working folder there for us, unless it was told not to."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [str(folder)]


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _trimmed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback that begins in the user's code."""
    ours = (__file__, runpy.__file__, "<frozen runpy>")
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


if __name__ == "__main__":
    main()
