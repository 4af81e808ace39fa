"""What autolog hooks into here: asked of a process of its own, which imports each library as an application would."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .. import integrations

_WITHIN: Final = 300.0  # seconds: some libraries take many to import


def hooks() -> Iterator[tuple[str, Any]]:
    """Every hook, by the name that a policy has for it, those of libraries that come along included.

    Raises whatever an integration that cannot be imported raises.
    """
    for name in names():
        for hook in _with_its_own(importlib.import_module(f"{integrations.__name__}.{name}").HOOK):
            yield name, hook


def names() -> list[str]:
    from ..integrations import workers

    return [*integrations._INTEGRATION_NAMES, *(f"workers.{name}" for name in workers._NAMES)]


def _with_its_own(hook: Any) -> Iterator[Any]:
    yield hook
    for other in hook.also:
        yield from _with_its_own(other)


def look() -> Mapping[str, str]:
    """By module: ``hooked``, or why it is not. What is not installed is left out."""
    done = subprocess.run(  # noqa: S603  # ourselves
        [sys.executable, "-m", __name__], capture_output=True, text=True, timeout=_WITHIN, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(json.loads(lines[-1])) if lines else {}


def main() -> None:
    integrations.autolog(silent=True)
    found = {}
    for _, hook in hooks():
        try:
            importlib.import_module(hook.backing_hook.module)
        except ModuleNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001  # a library that is broken here is what somebody wants to know
            found[hook.module] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        found[hook.module] = hook.backing_hook.state
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
