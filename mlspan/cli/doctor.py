"""``mlspan doctor``: check the settings, the installed libraries, and whether traces arrive."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Final

from rich.console import Console
from rich.text import Text

from .. import __version__
from .._extras import tell_install
from .._private_names import list_missing_names
from . import form, hooked, model
from .arguments import Option
from .common import ExperimentOption, JsonOption, TrackingUriOption, is_verbose, make_output_console, show_busy
from .libraries import (
    LibraryStatus,
    add_outcomes,
    find_version,
    format_library,
    format_mark,
    list_libraries,
    report_missing,
    report_unhooked,
    report_unsupported,
)
from .places import EffectiveSetting, find_spool_folder, resolve_settings
from .probes import CheckResult, check_mlflow_store, check_otlp_receiver
from .self_tracing import (
    SecondTracer,
    SelfTracingLibrary,
    check_usage_telemetry,
    format_self_tracing,
    list_second_tracers,
    list_self_tracing,
)
from .waiting import SpoolStatus, format_spool_status, read_spool_status, status_to_json, summarize_spool_status

_SUPPORTED_MLFLOW: Final = ">=3.6,<4"  # the range of the extra "mlflow"


def doctor(
    tracking_uri: TrackingUriOption = None,
    experiment: ExperimentOption = None,
    try_: Annotated[bool, Option("--write/--no-write", help="Store a test trace, and remove it again.")] = True,
    hooks: Annotated[
        bool, Option("--hooks", help="Import each library to check that autolog hooks into it. Slow.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check settings, libraries, and whether traces arrive, and list what waits on disk for whom.

    The exit code is 1 if something is wrong.

    No model is called. A database or experiment that does not exist yet is not created.
    """
    found, setting_problems = resolve_settings({"tracking_uri": tracking_uri, "experiment": experiment})
    libraries, broken = list_libraries()
    if hooks:
        with show_busy("Importing what is installed"):
            libraries = add_outcomes(libraries, hooked.check_hooks())
        broken += [*report_unhooked(libraries), *report_missing(libraries)]
    with show_busy("Trying the places that traces go to"):
        checks = [*check_mlflow_store(found, write=try_), *check_otlp_receiver(found)]
    problems = [
        *setting_problems,
        *_check_environment(),
        *broken,
        *report_unsupported(libraries),
        *_check_mlflow_version(),
        *check_usage_telemetry(os.environ),
    ]
    problems += [check.says for check in checks if not check.well]
    problems += list_missing_names()  # found by what was imported and tried above
    spool = read_spool_status(found)
    problems += [spool.fault] if spool is not None and spool.fault else []
    others = list_self_tracing(found), list_second_tracers(libraries)
    if as_json:
        report = _build_doctor_json(found, libraries, checks, problems)
        named = {
            "self_tracing": [asdict(one) for one in others[0]],
            "second_tracers": [asdict(one) for one in others[1]],
        }
        model.write_json({**report, **named, "spool": status_to_json(spool)})
    else:
        _print_doctor_report(make_output_console(), found, libraries, others, checks, spool, problems)
    if problems:
        raise SystemExit(1)


def _check_mlflow_version() -> Iterator[str]:
    """Yield a line if the installed MLflow is outside of the supported range."""
    from ..hooks.version_range import is_version_in_range

    version = find_version("mlflow") or find_version("mlflow-skinny")
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
    others: tuple[list[SelfTracingLibrary], list[SecondTracer]],
    checks: list[CheckResult],
    spool: SpoolStatus | None,
    problems: list[str],
) -> None:
    """Print the whole report for a person."""
    good, bad = ("+", "x") if console.options.ascii_only else ("✓", "✗")
    versions = {name: find_version(name) for name in ("mlflow", "opentelemetry-sdk")}
    version_texts = [f"mlspan {__version__}", f"Python {platform.python_version()}"]
    version_texts += [f"{name} {version or 'not installed'}" for name, version in versions.items()]
    for version_line in form.wrap_pieces(version_texts, ", ", console.width):
        console.print(Text(version_line, style="bold"))
    console.print("\nSettings", style="bold")
    for line in _format_settings(found, console.width):
        console.print(line, soft_wrap=True)
    console.print("\nIntegrations", style="bold")
    absent = [library for library in libraries if library.version is None]
    for library in (*(one for one in libraries if one.version is not None), *(absent if is_verbose() else ())):
        for line in format_library(library, good, bad, console.width):
            console.print(line, soft_wrap=True)
    if absent and not is_verbose():
        number = len({library.name for library in absent})
        console.print(f"  - {number} more {'is' if number == 1 else 'are'} not installed (-v lists them)", style="dim")
    if others[0] or others[1]:
        console.print("\nOther tracers that are installed", style="bold")
        for line in format_self_tracing(*others):
            console.print(line, soft_wrap=True)
    console.print("\nTried", style="bold")
    for check in checks:
        line = format_mark(good if check.well else bad, well=check.well).append(check.name, "bold")
        console.print(line.append(f": {check.says}" if check.well else ": see below"), soft_wrap=True)
    _print_spool_status(console, spool)
    console.print()
    if not problems:
        waits = "" if spool is None else summarize_spool_status(spool)
        says = f"nothing is wrong with the settings, but {waits}" if waits else "nothing is wrong"
        console.print(f"{good} {says}", style="yellow" if waits else "green", soft_wrap=True)
        return
    console.print(f"{len(problems)} problem{'s' * (len(problems) != 1)}", style="bold red")
    for problem in problems:
        console.print(f"  {bad} {problem}", style="red", soft_wrap=True)


def _print_spool_status(console: Console, spool: SpoolStatus | None) -> None:
    """Print what waits on disk and what was set aside; nothing if there is none."""
    if spool is not None and (lines := list(format_spool_status(spool))):
        console.print(f"\nWaiting in {spool.folder}", style="bold")
        for text in lines:
            console.print(Text(f"  - {text}", "yellow"), soft_wrap=True)


def _show_value(setting: EffectiveSetting, found: dict[str, EffectiveSetting]) -> str:
    """Return a setting's value as a person reads it: with its unit, and the folder that stands for none."""
    value = setting.value
    if setting.name == "spool_dir" and value is None:
        return str(find_spool_folder(found) or "-")
    if setting.name.endswith("_bytes") and isinstance(value, int):
        return f"{value} ({form.format_bytes(value)})"
    if setting.name == "spool_age" and isinstance(value, float):
        return f"{value:g} s ({form.format_age(value)})"
    return f"{value:g} s" if setting.name == "partial_interval" and value is not None else setting.display_text


def _format_settings(found: dict[str, EffectiveSetting], width: int) -> Iterator[Text]:
    """Yield one line for each setting, and highlight those that are not defaults."""
    name = max(map(len, found)) + 2
    for setting in found.values():
        line = Text(f"  {setting.name:<{name}}", "dim" if setting.source == "default" else "")
        shown = form.join_lines(_show_value(setting, found))
        value = form.truncate_to_width(shown, max(20, width - name - len(setting.source) - 8))
        line.append(value, "dim" if setting.source == "default" else "bold")
        yield line.append(f"  ({setting.source})", "dim" if setting.source == "default" else "cyan")
