"""The process behind ``mlspan run``: it runs a script or module as Python itself would, with tracing on.

It is a process of its own, so that the program does not share it with the command line. It is called as
``python -m mlspan.cli.launch KIND NAME ARGS...``, with ``script`` or ``module`` for KIND.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import TracebackType

from .. import integrations


def main() -> None:
    """Turn tracing on, and run the script or module that the arguments name."""
    kind, name, *arguments = sys.argv[1:]
    integrations.autolog()
    sys.argv = [name, *arguments]
    sys.excepthook = _print_user_traceback
    if kind == "module":
        _put_first_on_path(Path.cwd())
        if not _module_exists(name):
            sys.exit(f"mlspan run: there is no module {name}")
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        if Path(name).is_file():  # for a folder or a zip file, runpy does this itself
            _put_first_on_path(Path(name).resolve().parent)
        runpy.run_path(str(Path(name).absolute()), run_name="__main__")  # Python makes __file__ absolute since 3.9


def _put_first_on_path(folder: Path) -> None:
    """Put *folder* first on ``sys.path``, as Python does for a program that it starts.

    It replaces the working folder that ``-m`` has put there for this module, unless Python runs in safe-path mode.
    """
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [str(folder)]


def _module_exists(module: str) -> bool:
    """Return whether *module* can be found, without running it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _print_user_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception with a traceback that begins in the user's code."""
    skipped_files = (__file__, runpy.__file__, "<frozen runpy>")
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename in skipped_files:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


if __name__ == "__main__":
    main()
