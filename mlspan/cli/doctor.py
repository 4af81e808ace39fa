"""``mlspan doctor``: check the settings, the installed libraries, and whether traces arrive."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from .. import __version__
from .._extras import tell_install
from ..hooks import catalog
from ..tracing.settings import admin_policy
from . import form, hooked, model
from .common import ExperimentOption, JsonOption, TrackingUriOption, command, make_output_console, show_busy, write_line
from .places import EffectiveSetting, resolve_settings
from .probes import CheckResult, check_mlflow_store, check_otlp_receiver
from .waiting import SpoolStatus, format_spool_status, read_spool_status, status_to_json

_SUPPORTED_MLFLOW: Final = ">=3.6,<4"  # the range of the extra "mlflow"


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


@command
def doctor(
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
    try_: Annotated[bool, typer.Option("--write/--no-write", help="Store a test trace, and remove it again.")] = True,
    hooks: Annotated[
        bool, typer.Option("--hooks", help="Import each library to check that autolog hooks into it. Slow.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check settings, libraries, and whether traces arrive, and list what waits on disk for whom.

    The exit code is 1 if something is wrong.

    No model is called. A database or experiment that does not exist yet is not created.
    """
    found, setting_problems = resolve_settings({"tracking_uri": tracking_uri, "experiment": experiment})
    libraries, broken = _list_libraries()
    if hooks:
        with show_busy("Importing what is installed"):
            outcomes = hooked.check_hooks()
        libraries = [replace(library, hooked=outcomes.get(library.module)) for library in libraries]
        broken += _report_unhooked(libraries)
    with show_busy("Trying the places that traces go to"):
        checks = [*check_mlflow_store(found, write=try_), *check_otlp_receiver(found)]
    problems = [
        *setting_problems,
        *_check_environment(),
        *broken,
        *_report_unsupported(libraries),
        *_check_mlflow_version(),
    ]
    problems += [check.says for check in checks if not check.well]
    spool = read_spool_status(found)
    if as_json:
        report = _build_doctor_json(found, libraries, checks, problems)
        write_line(model.dump_json({**report, "spool": status_to_json(spool)}))
    else:
        _print_doctor_report(make_output_console(), found, libraries, checks, spool, problems)
    if problems:
        raise typer.Exit(1)


def _list_libraries() -> tuple[list[LibraryStatus], list[str]]:
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
    from ..hooks.hook import is_version_in_range

    library, tested = re.split(r"(?=[<>=])", hook.requires, maxsplit=1)
    version = _find_version(library)
    off = admin_policy.load_policy().find_disabling_file(name)
    well = version is None or is_version_in_range(version, tested)
    yield LibraryStatus(name, library, version, tested, well, hook.module, str(off) if off else None)
    for other in hook.also:
        yield from _list_hook_libraries(name, other)


def _find_version(library: str) -> str | None:
    """Return the installed version of *library*, or None."""
    if library == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _report_unsupported(libraries: list[LibraryStatus]) -> Iterator[str]:
    """Yield a line for each library whose version is outside of the tested range."""
    for library in libraries:
        if not library.well:
            yield (
                f"{library.name} {library.version} is outside of the tested range {library.tested} and is not traced: "
                "install one inside, or call autolog(disable_for_unsupported_versions=False)"
            )


def _report_unhooked(libraries: list[LibraryStatus]) -> Iterator[str]:
    """Yield a line for each installed and enabled library into which autolog does not hook."""
    for library in libraries:
        if library.version is not None and library.well and library.off is None and library.hooked != "hooked":
            yield f"autolog does not hook into {library.module}: {library.hooked or 'it cannot be imported'}"


def _check_mlflow_version() -> Iterator[str]:
    """Yield a line if the installed MLflow is outside of the supported range."""
    from ..hooks.hook import is_version_in_range

    version = _find_version("mlflow") or _find_version("mlflow-skinny")
    if version is not None and not is_version_in_range(version, _SUPPORTED_MLFLOW):
        yield f"MLflow {version} is outside of the supported range {_SUPPORTED_MLFLOW}: {tell_install('mlflow')}"


def _check_environment() -> Iterator[str]:
    """Yield a line for each variable of OpenTelemetry that drops traces, or cuts their content."""
    environ = os.environ
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield "OTEL_SDK_DISABLED=true turns all tracing off: unset it"
    if environ.get("OTEL_TRACES_SAMPLER", "").strip() in {"always_off", "parentbased_always_off"}:
        yield f"OTEL_TRACES_SAMPLER={environ['OTEL_TRACES_SAMPLER']} records no trace: unset it"
    for name in ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"):
        if environ.get(name, "").isdigit():
            yield (
                f"{name}={environ[name]} cuts messages in the middle of their JSON: unset it, and set "
                "MLSPAN_MAX_CONTENT_BYTES"
            )
    for name in ("OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"):
        if environ.get(name, "").isdigit() and int(environ[name]) < 64:
            yield f"{name}={environ[name]} drops attributes of spans: set 64 or more, or unset it"


def _build_doctor_json(
    found: dict[str, EffectiveSetting], libraries: list[LibraryStatus], checks: list[CheckResult], problems: list[str]
) -> dict[str, object]:
    """Return the whole report as ``--json`` prints it."""
    return {
        "mlspan": __version__,
        "python": platform.python_version(),
        "settings": {
            name: {"value": setting.display_text, "source": setting.source} for name, setting in found.items()
        },
        "libraries": [asdict(library) for library in libraries],
        "checks": [asdict(check) for check in checks],
        "problems": problems,
    }


def _print_doctor_report(
    console: Console,
    found: dict[str, EffectiveSetting],
    libraries: list[LibraryStatus],
    checks: list[CheckResult],
    spool: SpoolStatus | None,
    problems: list[str],
) -> None:
    """Print the whole report for a person."""
    good, bad = ("+", "x") if console.options.ascii_only else ("✓", "✗")
    versions = {name: _find_version(name) for name in ("mlflow", "opentelemetry-sdk")}
    version_texts = [f"mlspan {__version__}", f"Python {platform.python_version()}"]
    version_texts += [f"{name} {version or 'not installed'}" for name, version in versions.items()]
    for version_line in form.wrap_pieces(version_texts, ", ", console.width):
        console.print(Text(version_line, style="bold"))
    console.print("\nSettings", style="bold")
    for line in _format_settings(found, console.width):
        console.print(line, soft_wrap=True)
    console.print("\nIntegrations", style="bold")
    for library in libraries:
        console.print(_format_library(library, good, bad))
    console.print("\nTried", style="bold")
    for check in checks:
        line = _format_mark(good if check.well else bad, well=check.well).append(check.name, "bold")
        console.print(line.append(f": {check.says}" if check.well else ": see below"), soft_wrap=True)
    if spool is not None and (lines := list(format_spool_status(spool))):
        console.print(f"\nWaiting in {spool.folder}", style="bold")
        for text in lines:
            console.print(Text(f"  - {text}", "yellow"), soft_wrap=True)
    console.print()
    if not problems:
        console.print(f"{good} nothing is wrong", style="green")
        return
    console.print(f"{len(problems)} problem{'s' * (len(problems) != 1)}", style="bold red")
    for problem in problems:
        console.print(f"  {bad} {problem}", style="red", soft_wrap=True)


def _format_library(library: LibraryStatus, good: str, bad: str) -> Text:
    tested = f"  (tested: {library.tested})"
    if library.version is None:
        return Text(f"  - {library.name} is not installed{tested}", "dim")
    mark = _format_mark(good if library.well else bad, well=library.well)
    module = f" ({library.module})" if library.name == "python" else ""
    line = mark.append(f"{library.name} {library.version}{module}").append(tested, "dim")
    if library.off is not None:
        line.append(f"  off: {library.off}", "yellow")
    return line.append(f"  {library.hooked}", "cyan") if library.hooked else line


def _format_mark(sign: str, *, well: bool) -> Text:
    return Text("  ").append(f"{sign} ", "green" if well else "red")


def _format_settings(found: dict[str, EffectiveSetting], width: int) -> Iterator[Text]:
    """Yield one line for each setting, and highlight those that are not defaults."""
    name = max(map(len, found)) + 2
    for setting in found.values():
        line = Text(f"  {setting.name:<{name}}", "dim" if setting.source == "default" else "")
        value = form.truncate_to_width(
            form.join_lines(setting.display_text), max(20, width - name - len(setting.source) - 8)
        )
        line.append(value, "dim" if setting.source == "default" else "bold")
        yield line.append(f"  ({setting.source})", "dim" if setting.source == "default" else "cyan")
