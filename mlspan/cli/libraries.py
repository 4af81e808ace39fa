"""The libraries that integrations trace: what is installed of them, and what autolog has hooked into."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text

from .._shape import find_known
from ..hooks import catalog
from ..tracing.settings import admin_policy
from . import form, hooked
from .hooked import HookOutcome, PatchPointStatus


@dataclass(frozen=True)
class LibraryStatus:
    """A library that an integration traces, as found in this environment. *version* is None without it."""

    integration: str
    name: str
    version: str | None
    tested: str
    well: bool
    module: str
    off: str | None  # the policy file that disables the integration
    hooked: str | None = None  # outcome of installing the hook, if that was tried
    patch_points: tuple[PatchPointStatus, ...] = ()  # the places that it has looked for


def list_libraries() -> tuple[list[LibraryStatus], list[str]]:
    """Return the libraries that the integrations trace, and one line for each integration that cannot be imported."""
    found: list[LibraryStatus] = []
    broken: list[str] = []
    for name in hooked.list_integrations():
        try:
            hook = catalog.load_integration(name).HOOK
        except Exception as error:  # noqa: BLE001  # any error of the import is what the report has to show
            whose = catalog.list_external_integrations().get(name, "mlspan")
            broken.append(
                f"the integration {name} cannot be imported ({type(error).__name__}: {error}): reinstall {whose}"
            )
            continue
        found += _list_hook_libraries(name, hook)
    return found, broken


def _list_hook_libraries(name: str, hook: Any) -> Iterator[LibraryStatus]:
    """Yield the library of *hook*, and those of the hooks that belong to it."""
    from ..hooks.version_range import is_version_in_range, split_requirement

    library, tested = split_requirement(hook.requires)
    version = find_known(map(find_version, (library, *hook.distributions)))
    off = admin_policy.load_policy().find_disabling_file(name)
    well = version is None or is_version_in_range(version, tested)
    yield LibraryStatus(name, library, version, tested, well, hook.module, str(off) if off else None)
    for other in hook.also:
        yield from _list_hook_libraries(name, other)


def find_version(library: str) -> str | None:
    """Return the installed version of *library*, or None."""
    if library == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def report_unsupported(libraries: list[LibraryStatus]) -> Iterator[str]:
    """Yield a line for each library whose version is outside of the tested range."""
    for library in libraries:
        if not library.well:
            yield (
                f"{library.name} {library.version} is outside of the tested range {library.tested} and is not traced: "
                "install one inside, or call autolog(disable_for_unsupported_versions=False)"
            )


def report_unhooked(libraries: list[LibraryStatus]) -> Iterator[str]:
    """Yield a line for each installed and enabled library into which autolog does not hook."""
    for library in libraries:
        if library.version is not None and library.well and library.off is None and library.hooked != "hooked":
            yield f"autolog does not hook into {library.module}: {library.hooked or 'it cannot be imported'}"


def add_outcomes(libraries: list[LibraryStatus], outcomes: Mapping[str, HookOutcome]) -> list[LibraryStatus]:
    """Return *libraries* with what :func:`mlspan.cli.hooked.check_hooks` has found of each."""
    return [
        replace(library, hooked=outcome.state, patch_points=outcome.patch_points)
        if (outcome := outcomes.get(library.module)) is not None
        else library
        for library in libraries
    ]


def report_missing(libraries: list[LibraryStatus]) -> Iterator[str]:
    """Yield a line for each hooked library that lacks places which its integration patches."""
    for library in libraries:
        missing = [point for point in library.patch_points if point.found is False]
        if missing and library.hooked == "hooked":
            targets = ", ".join(point.target for point in missing)
            losses = "; ".join(dict.fromkeys(point.loss for point in missing))
            yield f"{library.name} {library.version} has no {targets}. Not recorded: {losses}"


def format_library(library: LibraryStatus, good: str, bad: str, width: int) -> Iterator[Text]:
    """Yield a line for *library*, and lines of at most *width* cells for the places that its hook has looked for."""
    tested = f"  (tested: {library.tested})"
    if library.version is None:
        workers = " (workers)" if library.integration.startswith(catalog.WORKERS_PREFIX) else ""
        yield Text(f"  - {library.name}{workers} is not installed{tested}", "dim")
        return
    mark = format_mark(good if library.well else bad, well=library.well)
    module = f" ({library.module})" if library.name == "python" else ""
    line = mark.append(f"{library.name} {library.version}{module}").append(tested, "dim")
    if library.off is not None:
        line.append(f"  off: {library.off}", "yellow")
    if library.hooked:
        line.append(f"  {library.hooked}", "cyan")
    yield line
    yield from _format_patch_points(library.patch_points, good, bad, width)


def _format_patch_points(points: tuple[PatchPointStatus, ...], good: str, bad: str, width: int) -> Iterator[Text]:
    """Yield the places that were found by module, then each that is missing, and each module that is not imported."""
    for module, names in hooked.group_by_module(point for point in points if point.found).items():
        yield from _format_point(f"{good} ", f"{module}:" if names else module, _separate(names), width)
    for point in points:
        if point.found is False:
            yield from _format_point(f"{bad} ", point.target, f"is missing. Not recorded: {point.loss}".split(), width)
        elif point.found is None:
            words = f"is not imported{f': {point.reason}' if point.reason else ' yet'}".split()
            yield from _format_point("- ", point.target, words, width)


def _separate(names: list[str]) -> list[str]:
    """Return *names* with commas between them; ``A.x, A.y`` becomes ``A.x, .y``."""
    owners = ["", *(name.rpartition(".")[0] for name in names)]
    short = [name.removeprefix(owner) if owner else name for name, owner in zip(names, owners, strict=False)]
    short = [name if name.startswith(".") else full for name, full in zip(short, names, strict=True)]
    return [*(f"{name}," for name in short[:-1]), *short[-1:]]


def _format_point(mark: str, first: str, words: Iterable[str], width: int) -> Iterator[Text]:
    """Yield an indented line, and further ones where it is longer than *width*."""
    style = {"✓": "dim", "+": "dim", "-": "dim"}.get(mark[0], "red")
    for number, line in enumerate(form.wrap_pieces([first, *words], " ", width - 6)):
        yield Text(f"    {mark if not number else '  '}{line}", style)


def format_mark(sign: str, *, well: bool) -> Text:
    return Text("  ").append(f"{sign} ", "green" if well else "red")
