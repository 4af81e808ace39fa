"""What ``mlspan doctor --hooks`` prints of each library's patch points."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from command_line import invoke

from mlspan.cli import self_tracing
from mlspan.cli.hooked import HookOutcome, PatchPointStatus
from mlspan.cli.libraries import (
    LibraryStatus,
    add_outcomes,
    find_version,
    format_library,
    report_missing,
    report_unhooked,
)

LIBRARY = LibraryStatus("tinyllm", "tinyllm", "2.1", ">=1,<3", True, "tinyllm", None)
POINTS = (
    PatchPointStatus("tinyllm.client:Client.ask", "calls", True),
    PatchPointStatus("tinyllm.client:Client.stream", "calls", True),
    PatchPointStatus("tinyllm.client:AsyncClient.ask", "calls", True),
    PatchPointStatus("fit of 12 classes and modules", "trainings", True),
    PatchPointStatus("tinyllm.client:Client.gone", "the links between the steps of a program", False),
    PatchPointStatus("tinyllm.realtime", "sessions", None),
    PatchPointStatus("tinyllm.beta", "sessions", None, "this version has no such module"),
)


def render(library: LibraryStatus, width: int) -> list[str]:
    return [line.plain for line in format_library(library, "✓", "✗", width)]


def test_patch_points_are_listed() -> None:
    """Found by module, missing with what is lost, and modules that are not imported, in 80 columns."""
    (library,) = add_outcomes([LIBRARY], {"tinyllm": HookOutcome("hooked", POINTS)})
    assert render(library, 80) == [
        "  ✓ tinyllm 2.1  (tested: >=1,<3)  hooked",
        "    ✓ tinyllm.client: Client.ask, .stream, AsyncClient.ask",
        "    ✓ fit of 12 classes and modules",
        "    ✗ tinyllm.client:Client.gone is missing. Not recorded: the links between the",
        "      steps of a program",
        "    - tinyllm.realtime is not imported yet",
        "    - tinyllm.beta is not imported: this version has no such module",
    ]
    assert max(map(len, render(library, 60)[1:])) <= 60
    assert render(LIBRARY, 80) == ["  ✓ tinyllm 2.1  (tested: >=1,<3)"]


def test_a_missing_patch_point_is_a_problem() -> None:
    """One line for a library names its missing places and what is lost; what is not imported is no problem."""
    library = replace(LIBRARY, hooked="hooked", patch_points=POINTS)
    assert list(report_unhooked([library])) == []
    assert list(report_missing([library])) == [
        "tinyllm 2.1 has no tinyllm.client:Client.gone. Not recorded: the links between the steps of a program"
    ]
    found = tuple(point for point in POINTS if point.found is not False)
    assert list(report_missing([replace(library, patch_points=found)])) == []


def test_a_hook_that_was_taken_back_is_one_problem() -> None:
    """The reason names the missing place already, and no second line repeats it."""
    state = "not hooked: tinyllm.client:Client.gone is missing: runs"
    library = replace(LIBRARY, hooked=state, patch_points=POINTS[4:5])
    assert list(report_unhooked([library])) == [f"autolog does not hook into tinyllm: {state}"]
    assert list(report_missing([library])) == []


@pytest.mark.parametrize("is_set", [True, False])
def test_other_tracers_are_listed(is_set: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that trace themselves, from the version that does; and instrumentations of what we trace as well."""
    versions = {"anthropic": "1.9.0", "mcp": "2.3.1", "pydantic-ai-slim": "2.68.0", "mlflow-skinny": "3.17.2"}
    monkeypatch.setattr(self_tracing, "find_version", versions.get)
    installed = ["openinference-instrumentation-openai", "opentelemetry-instrumentation-langchain", "openinference-x"]
    distributions = [SimpleNamespace(metadata={"Name": name}) for name in installed]
    monkeypatch.setattr(self_tracing.importlib.metadata, "distributions", lambda: distributions)
    setting = SimpleNamespace(value=is_set)
    libraries = self_tracing.list_self_tracing({"global_provider": setting})  # type: ignore[dict-item]
    names = {"openai": "openai", "openai-agents": "openai", "google-genai": "google_genai", "mcp": "mcp"}
    traced = [replace(LIBRARY, name=name, integration=integration) for name, integration in names.items()]
    traced.append(replace(LIBRARY, name="langchain-core", integration="langchain", version=None))
    second = self_tracing.list_second_tracers(traced)
    assert [(one.name, one.library) for one in second[1:]] == [
        ("mlflow.gemini.autolog()", "google-genai"),
        ("mlflow.openai.autolog()", "openai"),
    ]
    lines = [line.plain for line in self_tracing.format_self_tracing(libraries, second)]
    says = "came with MLflow; a program that calls one beside mlspan's may count calls twice"
    assert lines == [
        "  - mcp 2.3.1  has spans of its own; with integrations.mcp.autolog() a call is one span all the same",
        "  - pydantic-ai-slim 2.68.0  traces itself; integrations.pydantic_ai.autolog() records its spans",
        f"  - {installed[0]}  if a program turns it on, it traces openai beside mlspan; MLflow counts a call once",
        f"  - {', '.join(one.name for one in second[1:])}  {says}",
    ]
    monkeypatch.setattr(self_tracing, "find_version", {}.get)
    assert self_tracing.list_second_tracers(traced) == second[:1]


@pytest.mark.parametrize(
    ("version", "environ", "told"),
    [
        ("1.15.14", {}, True),
        ("1.15.14", {"CREWAI_DISABLE_TELEMETRY": "false"}, True),
        ("1.15.14", {"CREWAI_DISABLE_TELEMETRY": "True"}, False),
        ("1.15.15", {}, False),
        (None, {}, False),
    ],
)
def test_usage_telemetry_that_gets_the_spans_of_others(
    version: str | None, environ: dict[str, str], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that makes its usage telemetry the program's provider, from what version on it does not, its switch."""
    monkeypatch.setattr(self_tracing, "find_version", {"crewai": version}.get)
    line = (
        "CrewAI 1.15.14 makes its own telemetry the TracerProvider of a program that has set none, and so its maker "
        "gets the spans of other libraries: set CREWAI_DISABLE_TELEMETRY=true, or install crewai>=1.15.15"
    )
    assert list(self_tracing.check_usage_telemetry(environ)) == [line] * told


def test_the_doctor_names_what_is_installed_here() -> None:
    """Anthropic's client from version 2 on and MCP's SDK trace themselves; a setting decides whether they are seen."""
    pytest.importorskip("mlflow")
    versions = {name: find_version(name) for name in ("anthropic", "mcp")}
    if None in versions.values():
        pytest.skip("in the environment of the main tests")
    told = invoke(["doctor", "--no-write", "--json"]).stdout
    named = {one["name"]: (one["version"], one["is_seen"]) for one in json.loads(told)["self_tracing"]}
    assert named == {name: (version, False) for name, version in versions.items()}
    text = invoke(["doctor", "--no-write"], env={"MLSPAN_GLOBAL_PROVIDER": "true"}).stdout
    listed = text.partition("Other tracers that are installed")[2].splitlines()
    assert any(line.startswith(f"  - anthropic {versions['anthropic']}  has spans of its own; ") for line in listed)
