"""Check of the libraries that autolog hooks into in this environment.

It runs in a process of its own, which imports each library as an application would.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from .. import integrations
from ..hooks import catalog

_IMPORT_TIMEOUT: Final = 300.0  # seconds; some libraries are slow to import


@dataclass(frozen=True)
class PatchPointStatus:
    """A place in a library that its integration patches.

    Attributes:
        target: the place, as ``module:Class.method``; or a module, while that is not imported.
        loss: what is not recorded without the place.
        found: None for a module that is not imported.
        reason: why the module is not imported; empty for other places.
    """

    target: str
    loss: str
    found: bool | None
    reason: str = ""


@dataclass(frozen=True)
class HookOutcome:
    """Outcome of installing a hook: ``hooked``, or the reason why it is not, and the places that it has looked for."""

    state: str
    patch_points: tuple[PatchPointStatus, ...] = field(default=())


def iterate_hooks() -> Iterator[tuple[str, Any]]:
    """Yield every hook, with the name that a policy uses for its integration.

    Hooks that belong to another hook follow it under the same name. An error while importing one of mlspan's own
    integrations is raised as it is; one of another distribution that cannot be imported is left out.
    """
    external = catalog.list_external_integrations()
    hooks = [(name, catalog.load_integration(name).HOOK) for name in list_integrations() if name not in external]
    for name, first in (*hooks, *catalog.iterate_external_hooks(silent=True)):
        for hook in catalog.walk_hook(first):
            yield name, hook


def list_integrations() -> list[str]:
    """Return the names of all integrations, as a policy uses them."""
    from ..integrations import workers  # noqa: F401  # it registers its modules

    return list(catalog.list_integrations())


def check_hooks() -> Mapping[str, HookOutcome]:
    """Return the outcome by the hook's module.

    Libraries that are not installed are left out. The result is empty if the process fails.

    Raises:
        subprocess.TimeoutExpired: if the imports take longer than five minutes.
    """
    done = subprocess.run(  # noqa: S603  # runs this module
        [sys.executable, "-m", __name__], capture_output=True, text=True, timeout=_IMPORT_TIMEOUT, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return {
        module: HookOutcome(outcome["state"], tuple(PatchPointStatus(**one) for one in outcome["patch_points"]))
        for module, outcome in found.items()
    }


def main() -> None:
    """Install all hooks, import the libraries, and print the outcome as one line of JSON."""
    integrations.autolog(silent=True)
    found = {}
    for _, hook in iterate_hooks():
        backing = hook.backing_hook
        try:
            importlib.import_module(backing.module)
        except ModuleNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001  # any error of the import is what the report has to show
            found[hook.module] = HookOutcome(_describe_error(error))
            continue
        reasons = dict(_import_waiting_modules(backing))
        points = [
            PatchPointStatus(point.target, point.loss, point.found, reasons.get(point.target, ""))
            for point in backing.patch_points
        ]
        found[hook.module] = HookOutcome(backing.state, tuple(points))
    sys.stdout.write("\n" + json.dumps({module: asdict(outcome) for module, outcome in found.items()}) + "\n")


def _import_waiting_modules(hook: Any) -> Iterator[tuple[str, str]]:
    """Import the modules that patches of *hook* wait for; yield each that cannot be imported, and why."""
    for point in hook.patch_points:
        if point.found is None:
            try:
                importlib.import_module(point.target)
            except ModuleNotFoundError as error:
                is_absent = point.target == error.name or point.target.startswith(f"{error.name}.")
                yield point.target, "this version has no such module" if is_absent else _describe_error(error)
            except Exception as error:  # noqa: BLE001  # likewise
                yield point.target, _describe_error(error)


def _describe_error(error: Exception) -> str:
    return next(iter(f"{type(error).__name__}: {error}".splitlines()))


def group_by_module(points: Iterable[PatchPointStatus]) -> dict[str, list[str]]:
    """Return the names of *points* by their module; a point that is not written ``module:name`` stands for itself."""
    groups: dict[str, list[str]] = {}
    for point in points:
        module, _, name = point.target.partition(":")
        groups.setdefault(module, []).extend([name] if name else [])
    return groups


if __name__ == "__main__":
    main()
