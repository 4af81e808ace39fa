"""browser-use: runs of agents with their steps, calls to models, and actions in the browser.

browser-use has no hook that all calls pass. The methods of its classes are traced; of its models also those of
subclasses that are defined later, and those of other classes once an agent is given one of them. Nothing of browser-use
is imported: most of its modules are heavy, and it imports them itself when they are first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from ...hooks.hook import Hook
from ...hooks.patching import (
    CallStarter,
    Patch,
    Undo,
    apply_patches,
    install_when_imported,
    replace_method,
    trace_method,
)
from ...hooks.subclasses import trace_subclasses
from . import actions, agents, models

__all__ = ["HOOK", "autolog"]

PRIVATE_NAMES: Final[dict[str, str]] = {
    "_handle_step_error": "the type of the error that a step has failed with",
}
_AGENT: Final = "browser_use.agent.service:Agent"
_MODEL: Final = "browser_use.llm.base:BaseChatModel"


def _list_agent_patches(hook: Hook) -> Iterator[Patch]:
    run, step = CallStarter(agents.start_agent_run, hook), CallStarter(agents.start_agent_step, hook)
    yield Patch(f"{_AGENT}.run", partial(trace_method, start=run), "runs of agents")
    yield Patch(f"{_AGENT}.step", partial(trace_method, start=step), "steps of agents")
    replay = partial(trace_method, start=hook.make_starter(agents.begin_replay))
    yield Patch(f"{_AGENT}.rerun_history", replay, "replays of a history")
    watch = partial(replace_method, make=agents.watch_errors)
    yield Patch(f"{_AGENT}._handle_step_error", watch, PRIVATE_NAMES["_handle_step_error"])


def _list_action_patches(hook: Hook) -> Iterator[Patch]:
    act = partial(trace_method, start=CallStarter(actions.start_action, hook))
    yield Patch("browser_use.tools.registry.service:Registry.execute_action", act, "actions")


def _list_model_patches(hook: Hook) -> Iterator[Patch]:
    methods: Any = {"ainvoke": CallStarter(models.start_model_call, hook)}
    yield Patch(_MODEL, partial(trace_subclasses, methods=methods), "calls of models")


def _list_registry_patches(hook: Hook) -> Iterator[Patch]:
    watch = partial(replace_method, make=partial(models.trace_registered, hook))
    yield Patch("browser_use.tokens.service:TokenCost.register_llm", watch, "models of no class of browser-use")


_PATCHES: Final[dict[str, Callable[[Hook], Iterator[Patch]]]] = {  # by the module whose import installs them
    "browser_use.agent.service": _list_agent_patches,
    "browser_use.tools.registry.service": _list_action_patches,
    "browser_use.llm.base": _list_model_patches,
    "browser_use.tokens.service": _list_registry_patches,
}


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        for module, list_patches in _PATCHES.items():
            install = partial(lambda list_these: apply_patches(list_these(hook)), list_patches)
            undo.callback(install_when_imported(module, install, loss=module))
        return undo.pop_all().close


HOOK = Hook("browser-use>=0.12,<1", "browser_use", _install)
autolog = HOOK.autolog
