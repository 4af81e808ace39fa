"""``mlspan notebook``: autolog in every IPython and Jupyter session of this user, or no more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from .common import Failure, command, out

app = typer.Typer(no_args_is_help=True, help="Turn autolog on in every IPython and Jupyter session.")

_SCRIPT: Final = """\
# Written by `mlspan notebook enable`; `mlspan notebook disable` removes it.
def _mlspan():
    import importlib.util

    if importlib.util.find_spec("mlspan") is None:  # an environment without it
        return
    try:
        get_ipython().extension_manager.load_extension("mlspan")
    except Exception as error:
        print(f"mlspan is not loaded: {type(error).__name__}: {error}")


_mlspan()
del _mlspan
"""

Profile = Annotated[str, typer.Option("--profile", metavar="NAME", help="Of IPython. Kernels of Jupyter use default.")]


def startup_file(profile: str) -> Path:
    """Where it is to stand: IPython runs what is in this folder when a session starts."""
    try:
        from IPython.paths import get_ipython_dir

        folder = Path(get_ipython_dir())
    except ImportError:
        folder = Path(os.environ.get("IPYTHONDIR") or Path.home() / ".ipython")
    return folder / f"profile_{profile}" / "startup" / "00-mlspan.py"


@app.command()
@command
def enable(profile: Profile = "default") -> None:
    """Load mlspan whenever a session starts, as %load_ext mlspan does."""
    path = startup_file(profile)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_SCRIPT, encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from None
    out().print(f"on: every new session loads mlspan ({path})", soft_wrap=True)


@app.command()
@command
def disable(profile: Profile = "default") -> None:
    """Load it no more."""
    path = startup_file(profile)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"cannot remove {path}: {error.strerror}") from None
    out().print("off: sessions load mlspan only where they say %load_ext mlspan", soft_wrap=True)


@app.command()
@command
def status(profile: Profile = "default") -> None:
    """Say whether it is on."""
    path = startup_file(profile)
    out().print(f"on: {path}" if path.exists() else f"off: there is no {path}", soft_wrap=True)
