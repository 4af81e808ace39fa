"""The part of ``tracing.doctor()`` on integrations: which are on in this process, and which other tracers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._integration_report import IntegrationReport
from ..tracing.mlflow_state.autologging import list_traced_flavors
from ..tracing.mlflow_state.evaluation import find_recording_integration
from . import catalog
from .deferred_settings import iterate_deferred
from .version_range import is_version_in_range, split_requirement

# A private name of OpenTelemetry's BaseInstrumentor, and what is lost without it.
PRIVATE_FIELDS: Final[dict[str, str]] = {"_instance": "tracing.doctor() names no other instrumentation that is on"}

_INSTRUMENTOR_MODULE: Final = "opentelemetry.instrumentation.instrumentor"  # of OpenTelemetry's and OpenInference's


def read_integrations() -> IntegrationReport:
    """Return what is on in this process. Nothing is imported."""
    hooks = [
        (name, each)
        for name, module in catalog.list_integrations().items()
        for hook in [catalog.find_loaded_hook(name, module)]
        if hook is not None
        for each in catalog.walk_hook(hook)
    ]
    lines, problems = [], []
    not_imported = {name for name, hook in hooks if hook.is_wanted} - {
        name for name, hook in hooks if hook.is_wanted and (hook.is_installed or hook.module in sys.modules)
    }
    for name, hook in hooks:
        if hook.is_wanted and name not in not_imported:
            state, problem = _describe_hook(hook)
            lines.append(f"{name} ({hook.module}): {state}")
            problems += [problem] if problem else []
    waiting = sorted(not_imported | {name for name, _, _ in iterate_deferred()})
    if waiting:
        lines.append(f"on once their library is imported: {', '.join(waiting)}")
    traced = {hook.module.partition(".")[0]: name for name, hook in hooks if hook.is_installed}
    by_flavor = {flavor: find_recording_integration(flavor) for flavor in list_traced_flavors()}
    problems += [
        f"mlflow.{flavor}.autolog() and mlspan's {name} both record each call, so that its tokens may count twice: "
        f"remove that line, or call mlflow.{flavor}.autolog(disable=True)"
        for flavor, name in by_flavor.items()
        if name is not None
    ]
    others = (*_list_flavors(by_flavor), *_list_other_tracers(traced))
    return IntegrationReport(tuple(lines), others, tuple(problems))


def _describe_hook(hook: Any) -> tuple[str, str]:
    """Return the state of a hook that is wanted, and a line about what is wrong with it, or an empty one."""
    if hook.is_installed:
        missing = [point for point in hook.backing_hook.patch_points if point.found is False]
        losses = "; ".join(dict.fromkeys(point.loss for point in missing))
        problem = (
            f"{hook.module} has no {', '.join(p.target for p in missing)}. Not recorded: {losses}" if missing else ""
        )
        return "on" if hook.settings.log_traces else "on, but log_traces=False records no spans", problem
    if hook.module not in sys.modules:
        return "on once the library is imported", ""
    version, (_, tested) = hook.find_installed_version(), split_requirement(hook.requires)
    if version is not None and not is_version_in_range(version, tested) and not hook.settings.any_version:
        state = f"off: version {version} is outside of the tested range {tested}"
        setting = "disable_for_unsupported_versions=False"
        return (
            state,
            f"{hook.module} {version} is not traced: install {hook.requires}, or call its autolog with {setting}",
        )
    return hook.state, f"autolog does not hook into {hook.module}: {hook.state}"


def _list_flavors(by_flavor: Mapping[str, str | None]) -> Iterator[str]:
    """Yield a line for each library that MLflow's own autologging traces, and our integration beside it."""
    for flavor, name in by_flavor.items():
        beside = "" if name is None else f", beside mlspan's {name}: each call has two spans"
        yield f"mlflow.{flavor}.autolog() is on{beside}"


def _list_other_tracers(traced: dict[str, str]) -> Iterator[str]:
    """Yield a line for each instrumentation by another package that is on; *traced* has our integrations by package."""
    base = getattr(sys.modules.get(_INSTRUMENTOR_MODULE), "BaseInstrumentor", None)
    for instrumentor in _list_instrumentors(base):
        kind = type(instrumentor)
        if kind.__module__.startswith("mlspan") or not instrumentor.is_instrumented_by_opentelemetry:
            continue
        words = re.split(r"[._]", kind.__module__.lower())
        ours = next((name for package, name in traced.items() if package.lower() in words), None)
        beside = f", beside mlspan's {ours}: each call has two spans, and MLflow counts it once" if ours else ""
        yield f"{kind.__name__} of {kind.__module__} is on{beside}"


def _list_instrumentors(kind: Any) -> Iterator[Any]:
    """Yield the instances that exist of the subclasses of *kind*, each the only one of its class.

    None is made: the constructors of some set their package's options.
    """
    for each in () if kind is None else kind.__subclasses__():
        if (instance := vars(each).get("_instance")) is not None:
            yield instance
        yield from _list_instrumentors(each)
