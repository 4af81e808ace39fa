"""Hooking in and out: versions, options, and originals that come back."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext

from mlspan.cli import hooked
from mlspan.hooks.call import Call
from mlspan.hooks.hook import Hook, trace_methods
from mlspan.hooks.patching import Patch, apply_patches, call_when_imported, install_when_imported, replace_function
from mlspan.hooks.version_range import is_version_in_range
from mlspan.testing import Spans
from mlspan.tracing import runtime
from mlspan.tracing.operations.metrics import Instruments
from mlspan.tracing.operations.records import Step


class Library(ModuleType):
    """Stands in for a framework: one class with one method."""

    class Client:
        def ask(self, question: str) -> str:
            return question.upper()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    found = Library("pretend")
    monkeypatch.setitem(sys.modules, "pretend", found)
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"pretend": "2.5.1"}[name])
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: found)
    yield found
    assert "ask" in vars(Library.Client)


def hook(requires: str = "pretend>=2,<3") -> Hook:
    return Hook(requires, "pretend", trace_methods({"pretend:Client.ask": lambda call: (Step(name="ask"), None)}))


def test_disabling_brings_the_very_original_back(library: Any, spans: Spans) -> None:
    """Autolog twice patches once, disable takes the patch back, and a kept reference falls silent."""
    original, made = library.Client.ask, hook()
    made.autolog()
    made.autolog()
    kept = library.Client().ask
    assert (kept("a"), spans.tree()) == ("A", "ask")
    made.autolog(disable=True)
    assert library.Client.ask is original
    assert kept("b") == "B"
    assert len(spans.all) == 1


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MeterProvider, which another test may have set: what is not sampled is measured all the same."""
    monkeypatch.setattr(Instruments, "has_meter_provider", lambda _: False)


@pytest.mark.usefixtures("unmeasured")
def test_nothing_is_read_inside_an_unsampled_trace(library: Any, spans: Spans) -> None:
    """Below a span that was not sampled a call is made as ever, and what is asked is not even looked at."""
    read: list[Any] = []
    made = Hook("pretend>=2,<3", "pretend", trace_methods({"pretend:Client.ask": read.append}))
    made.autolog()
    with trace.use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True))):
        assert library.Client().ask("a") == "A"
    assert (read, spans.tree()) == ([], "")
    assert library.Client().ask("b") == "B"
    assert [call.args[1:] for call in read] == [("b",)]
    made.autolog(disable=True)


@pytest.mark.usefixtures("unmeasured")
def test_a_root_that_the_ratio_drops_is_not_read(library: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the traces are kept, each whole; of the others nothing is read, and what is below them is dropped too."""
    read: list[Any] = []

    def begin(call: Call) -> tuple[Step, None]:
        read.append(call)
        return Step(name="ask"), None

    def ask(self: Any, question: str) -> str:
        if question != "inner":
            self.ask("inner")
        return question

    running = runtime.get_runtime()
    assert running is not None
    monkeypatch.setattr(running.get_span_starter().tracer, "sampler", ParentBased(TraceIdRatioBased(0.5)))
    monkeypatch.setattr(library.Client, "ask", ask)
    made = Hook("pretend>=2,<3", "pretend", trace_methods({"pretend:Client.ask": begin}))
    made.autolog()
    for _ in range(400):
        assert library.Client().ask("outer") == "outer"
    made.autolog(disable=True)
    roots = [span for span in spans.all if span.parent is None]
    assert 140 < len(roots) < 260
    assert len(read) == len(spans.all) == 2 * len(roots)
    assert spans.tree() == "\n".join(["ask\n  ask"] * len(roots))


def test_waiting_for_a_module_can_be_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a module is installed as it is imported, once, and not if it was taken back before."""
    done: list[str] = []

    def install() -> Any:
        done.append("in")
        return lambda: done.append("out")

    monkeypatch.delitem(sys.modules, "this", raising=False)
    monkeypatch.setattr("builtins.print", lambda *_: None)  # the module has something to say
    kept, taken_back = install_when_imported("this", install), install_when_imported("this", install)
    taken_back()
    assert done == []
    importlib.import_module("this")
    assert done == ["in"]
    kept()
    assert done == ["in", "out"]


@pytest.mark.parametrize("anew", [False, True])
def test_a_half_imported_module_is_waited_for(anew: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks for a module while its code runs is called at the end of that, once, and again if imported anew."""
    (tmp_path / "halved.py").write_text("import other_half\nwhole = True\n")
    (tmp_path / "other_half.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[bool] = []

    def look() -> None:
        seen.append(hasattr(sys.modules["halved"], "whole"))
        undos.append(call_when_imported("halved", lambda: seen.append(True)))  # at once: it is imported now

    undos = [call_when_imported("halved", lambda: None, again=True)]
    undos.append(call_when_imported("other_half", lambda: undos.append(call_when_imported("halved", look, again=anew))))
    try:
        for times in (1, 2):
            importlib.import_module("halved")
            assert seen == [True, True] * (times if anew else 1)
            del sys.modules["halved"]
    finally:
        for undo in undos:
            undo()
        for name in ("halved", "other_half"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(("silent", "lines"), [(False, 1), (True, 0)])
def test_an_untested_version_is_left_alone_and_said(
    library: Any, spans: Spans, caplog: pytest.LogCaptureFixture, silent: bool, lines: int
) -> None:
    """A version that no test has seen is not traced, and one line says so and what to do, unless silent."""
    original, made = library.Client.ask, hook("pretend>=1,<2")
    with caplog.at_level(logging.INFO, "mlspan"):
        made.autolog(silent=silent)
    assert library.Client.ask is original
    assert len(caplog.messages) == lines
    assert all("pretend 2.5.1 is outside of the tested range >=1,<2" in line for line in caplog.messages)


def test_an_untested_version_can_be_traced_all_the_same(library: Any, spans: Spans) -> None:
    """``disable_for_unsupported_versions=False`` is the user's word that it will do."""
    made = hook("pretend>=1,<2")
    made.autolog(disable_for_unsupported_versions=False, silent=True)
    library.Client().ask("a")
    made.autolog(disable=True)
    assert spans.tree() == "ask"


def test_a_module_of_another_distribution_is_left_alone(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has only the name of the module in common is no business of ours, and its import is undisturbed."""
    original, made = library.Client.ask, hook()

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    made.autolog()
    assert library.Client.ask is original


def test_an_unknown_option_is_refused(library: Any) -> None:
    with pytest.raises(TypeError, match="no option colour"):
        hook().autolog(colour="red")


@pytest.mark.parametrize(
    ("version", "fits"),
    [("1.66", True), ("1.65.9", False), ("3.99.1", True), ("4.0.0", False), ("4.0.0rc1", False), ("2.0.0rc1", True)],
)
def test_versions_are_compared_by_number(version: str, fits: bool) -> None:
    assert is_version_in_range(version, ">=1.66.0,<4") is fits


def test_a_missing_patch_point_is_said_once(
    library: Any, spans: Spans, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning names the place and what is lost; the rest is traced; turned off, nothing is left."""
    monkeypatch.setattr("mlspan._guard._logged_lines", {})
    original = library.Client.ask
    begin: Any = lambda call: (Step(name="ask"), None)  # noqa: E731
    made = Hook("pretend>=2,<3", "pretend", trace_methods({"pretend:Client.ask": begin, "pretend:Client.gone": begin}))
    for _ in range(2):
        made.autolog()
        assert library.Client().ask("a") == "A"
        assert [(point.target, point.found) for point in made.patch_points] == [
            ("pretend:Client.ask", True),
            ("pretend:Client.gone", False),
        ]
        made.autolog(disable=True)
        assert library.Client.ask is original
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "pretend:Client.gone" in line
    assert "calls of Client.gone" in line


def test_an_install_that_fails_takes_back_what_it_put_in(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the place that everything needs, and after an error half-way, nothing stays."""
    original = library.Client.ask

    def install(_: Hook) -> Any:
        replace_function("pretend:Client.ask", lambda _: lambda *_: "ours")
        return apply_patches([Patch("pretend:Client.gone", lambda _: lambda: None, "all", is_required=True)])

    made = Hook("pretend>=2,<3", "pretend", install)
    made.autolog(silent=True)
    assert (library.Client.ask, made.is_installed) == (original, False)
    assert made.state == "not hooked: pretend:Client.gone is missing: all"
    made.autolog(disable=True)


def test_a_module_without_a_spec_is_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """For no hook does a module that a program has put together itself raise an error; its package counts as there."""
    seen = []
    for name, hook in hooked.iterate_hooks():
        for module in {hook.module, *getattr(hook, "modules", ())}:
            with monkeypatch.context() as patched:
                package = module.partition(".")[0]
                patched.setitem(sys.modules, package, ModuleType(package))
                assert hook._is_library_available(), (name, module)
                seen.append(name)
    assert len(set(seen)) > 40
