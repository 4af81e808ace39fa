"""``mlspan notebook``: turn autolog on or off for every IPython and Jupyter session of this user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

from .arguments import Option
from .common import CommandFailure, make_output_console

_STARTUP_SCRIPT: Final = """\
# Written by `mlspan notebook enable`; `mlspan notebook disable` removes it.
def _mlspan():
    import importlib.util

    if importlib.util.find_spec("mlspan") is None:  # an environment without it
        return
    try:
        from mlspan.notebook import load_at_start

        load_at_start(get_ipython())
    except Exception as error:
        print(f"mlspan is not loaded: {type(error).__name__}: {error}")


_mlspan()
del _mlspan
"""

ProfileOption = Annotated[
    str, Option("--profile", metavar="NAME", help="IPython profile. Jupyter kernels use: default.")
]


def find_startup_file(profile: str) -> Path:
    """Return the path of the startup script. IPython runs the scripts of that folder when a session starts."""
    try:
        from IPython.paths import get_ipython_dir

        folder = Path(get_ipython_dir())
    except ImportError:
        folder = Path(os.environ.get("IPYTHONDIR") or Path.home() / ".ipython")
    return folder / f"profile_{profile}" / "startup" / "00-mlspan.py"


def enable(profile: ProfileOption = "default") -> None:
    """Load mlspan whenever a session starts, as %load_ext mlspan does."""
    path = find_startup_file(profile)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_STARTUP_SCRIPT, encoding="utf-8")
    except OSError as error:
        raise CommandFailure(f"cannot write {path}: {error.strerror}") from None
    make_output_console().print(f"on: every new session loads mlspan ({path})", soft_wrap=True)


def disable(profile: ProfileOption = "default") -> None:
    """Stop loading mlspan when a session starts."""
    path = find_startup_file(profile)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CommandFailure(f"cannot remove {path}: {error.strerror}") from None
    make_output_console().print("off: sessions load mlspan only by %load_ext mlspan", soft_wrap=True)


def status(profile: ProfileOption = "default") -> None:
    """Print whether sessions load mlspan."""
    path = find_startup_file(profile)
    make_output_console().print(f"on: {path}" if path.exists() else f"off: there is no {path}", soft_wrap=True)


COMMANDS: Final = {"enable": enable, "disable": disable, "status": status}
