"""Check of the libraries that autolog hooks into in this environment.

It runs in a process of its own, which imports each library as an application would.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .. import integrations
from ..hooks import catalog

_IMPORT_TIMEOUT: Final = 300.0  # seconds; some libraries are slow to import


def iterate_hooks() -> Iterator[tuple[str, Any]]:
    """Yield every hook, with the name that a policy uses for its integration.

    Hooks that belong to another hook follow it under the same name. An error while importing one of mlspan's own
    integrations is raised as it is; one of another distribution that cannot be imported is left out.
    """
    external = catalog.list_external_integrations()
    hooks = [(name, catalog.load_integration(name).HOOK) for name in list_integrations() if name not in external]
    for name, first in (*hooks, *catalog.iterate_external_hooks(silent=True)):
        for hook in _walk_hook(first):
            yield name, hook


def list_integrations() -> list[str]:
    """Return the names of all integrations, as a policy uses them."""
    from ..integrations import workers  # noqa: F401  # it registers its modules

    return list(catalog.list_integrations())


def _walk_hook(hook: Any) -> Iterator[object]:
    """Yield *hook* and the hooks that belong to it."""
    yield hook
    for other in hook.also:
        yield from _walk_hook(other)


def check_hooks() -> Mapping[str, str]:
    """Return the outcome by module: ``hooked``, or the reason why it is not.

    Libraries that are not installed are left out. The result is empty if the process fails.

    Raises:
        subprocess.TimeoutExpired: if the imports take longer than five minutes.
    """
    done = subprocess.run(  # noqa: S603  # runs this module
        [sys.executable, "-m", __name__], capture_output=True, text=True, timeout=_IMPORT_TIMEOUT, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(json.loads(lines[-1])) if lines else {}


def main() -> None:
    """Install all hooks, import the libraries, and print the outcome as one line of JSON."""
    integrations.autolog(silent=True)
    found = {}
    for _, hook in iterate_hooks():
        try:
            importlib.import_module(hook.backing_hook.module)
        except ModuleNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001  # any error of the import is what the report has to show
            found[hook.module] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        found[hook.module] = hook.backing_hook.state
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
