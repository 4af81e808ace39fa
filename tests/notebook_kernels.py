"""The kernels of notebooks that tests run."""

from __future__ import annotations

from pathlib import Path

from traitlets.config import Config


def use_sockets_in_files(folder: Path) -> Config:
    """Return settings with which a kernel listens on files in *folder*: two kernels can be given the same port."""
    return Config({"KernelManager": {"transport": "ipc", "ip": str(folder / "kernel")}})
