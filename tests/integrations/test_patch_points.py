"""Each place that an integration patches may be missing in a version of its library: take away one after the other."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from leftovers import use_agents, use_langchain, use_openai, use_pool

from mlspan import _guard, _patching, integrations
from mlspan.cli import hooked
from mlspan.hooks import Hook
from mlspan.integrations._training.hook import TrainingHook
from mlspan.testing import Spans

HOOKS: Final[dict[str, Hook]] = {
    hook.backing_hook.module: hook.backing_hook
    for _, hook in hooked.iterate_hooks()
    if not isinstance(hook, TrainingHook)  # what trains is found by looking, not by name
}
USES: Final[dict[str, Callable[[], None]]] = {
    "agents": use_agents,
    "langchain_core": use_langchain,
    "langgraph.pregel": use_langchain,
    "multiprocessing.pool": use_pool,
    "openai": use_openai,
}
REQUIRED: Final = {  # without one of these, nothing of a library is traced
    "agents:add_trace_processor",
    "langchain_core.callbacks:BaseCallbackHandler",
    "langchain_core.tracers.context:_configure_hooks",
    "langchain_core.tracers.context:register_configure_hook",
}
Places = dict[str, str]  # what is lost, by target


@pytest.fixture(params=HOOKS)
def hook(request: pytest.FixtureRequest) -> Iterator[Hook]:
    """A hook whose library is installed; it is off before and after the test."""
    found = HOOKS[request.param]
    pytest.importorskip(found.module)
    integrations.autolog(disable=True)
    yield found
    found.autolog(disable=True)


def list_places(hook: Hook) -> Places:
    """Return all that *hook* patches in the installed version."""
    hook.autolog()
    for point in hook.patch_points:
        if point.found is None:
            pytest.importorskip(point.target)
    places = {point.target: point.loss for point in hook.patch_points}
    hook.autolog(disable=True)
    assert places
    return places


def read_entry(target: str) -> list[tuple[Any, str, Any]]:
    """Return what stands under *target*: in a module, or in a class and its parents."""
    owner, name = _patching.resolve_target(target)
    owners = owner.__mro__ if isinstance(owner, type) else [owner]
    return [
        (one, name, vars(one)[name])
        for one in owners
        if name in vars(one) and getattr(one, "__module__", "") != "builtins"
    ]


def read_entries(places: Iterable[str]) -> dict[str, Any]:
    return {target: read_entry(target) for target in places}


@contextmanager
def gone(target: str) -> Iterator[None]:
    """Delete the target, wherever it is defined. A library that uses it itself is broken meanwhile."""
    entries = read_entry(target)
    for owner, name, _ in entries:
        delattr(owner, name)
    try:
        yield
    finally:
        for owner, name, entry in entries:
            setattr(owner, name, entry)


@contextmanager
def hidden(target: str) -> Iterator[None]:
    """Keep our patches from finding the target; the library goes on using it, as if it had another name."""
    resolve = _patching.resolve_target

    def resolve_others(wanted: str) -> tuple[Any, str]:
        if wanted == target:
            raise AttributeError(target)
        return resolve(wanted)

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):  # wherever it has been imported to
            if name.startswith("mlspan") and vars(module).get("resolve_target") is resolve:
                patch.setattr(module, "resolve_target", resolve_others)
        yield


@pytest.mark.parametrize("take_away", [gone, hidden])
def test_a_patch_point_that_is_missing(
    hook: Hook,
    take_away: Callable[[str], Any],
    spans: Spans,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One warning names the place and what is lost, the program runs, and what was put in is taken back."""
    places = list_places(hook)
    before, tried, untraced = read_entries(places), set(), set()
    for target, loss in places.items():
        monkeypatch.setattr(_guard, "_logged_lines", {})
        caplog.clear()
        with take_away(target):
            if _patching._is_there(target):
                continue  # every class has an __init__, and LangChain's modules have attributes made when asked for
            tried.add(target)
            kin = {one for one in places if one != target and not _patching._is_there(one)}  # of the same definition
            hook.autolog()
            lines = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
            is_optional = all(target not in point.target.split() for point in hook.patch_points)
            if is_optional:  # some supported versions lack it: no warning is due, but for kin that inherit the same
                method = f".{target.rpartition('.')[2]}. "
                assert ([line for line in lines if method not in line], hook.is_installed) == ([], True)
                hook.autolog(disable=True)
                continue
            assert len(lines) == 1, lines
            assert target in lines[0]
            assert loss in lines[0]
            missing = [point for point in hook.patch_points if point.found is False]
            below = [point for point in missing if point.target.startswith(f"{target}.") or point.target in kin]
            others = [(target in point.target.split(), point.loss) for point in missing if point not in below]
            assert others == [(True, loss)]
            if take_away is hidden:
                run_program(hook, spans)
            if not hook.is_installed and (not kin or len(kin) + 1 < len(places)):
                untraced.add(target)
                left = [one for one in places if one != target]
                assert read_entries(left) == {one: before[one] for one in left}
            hook.autolog(disable=True)
        assert read_entries(places) == before
    assert tried
    assert untraced == (tried if len(places) == 1 else tried & REQUIRED)


def run_program(hook: Hook, spans: Spans) -> None:
    """Use the library; nothing of it is recorded if the hook is not installed."""
    count = len(spans.all)
    if hook.module in USES:
        USES[hook.module]()
    if not hook.is_installed:
        assert len(spans.all) == count
