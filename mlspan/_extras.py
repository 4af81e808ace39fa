"""The requirements of this distribution's extras."""

from __future__ import annotations

import importlib.metadata
import re
import shlex

_REQUIREMENT = re.compile(r"""([\w.-]+(?:\[[\w,.-]+\])?)\s*([^;]*?)\s*;.*\bextra == ["']([\w.-]+)["']""")


def tell_install(extra: str) -> str:
    """Return the shell command that installs what *extra* asks for, from any folder: ``pip install 'mlflow>=3.6,<4'``.

    It names the requirements, as ``.[extra]`` is known to pip in a checkout alone.
    """
    try:
        declared = importlib.metadata.requires("mlspan") or []
    except importlib.metadata.PackageNotFoundError:  # run from its folder
        declared = []
    asked = [match for line in declared if (match := _REQUIREMENT.match(line)) and match[3] == extra]
    found = [name + ",".join(reversed(versions.split(","))) for name, versions, _ in map(re.Match.groups, asked)]
    return "pip install " + shlex.join(found or [extra])
