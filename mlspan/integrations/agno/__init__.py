"""Agno: agents, teams and workflows with their steps, models, tools and knowledge.

Agno has no hook that tells of a run's start and end. The methods of its classes are traced; of its models also those
of subclasses that are defined later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from ...hooks.call import Begin
from ...hooks.hook import Hook
from ...hooks.patching import (
    CallStarter,
    Patch,
    Undo,
    apply_patches,
    install_when_imported,
    observe_method,
    replace_method,
)
from ...hooks.subclasses import trace_subclasses
from . import models, runs, tools
from .wrappers import carry_executor, note_error, trace_any

__all__ = ["HOOK", "autolog"]

_RUNS: Final = ("run", "arun", "continue_run", "acontinue_run")
_STEPS: Final = ("execute", "execute_stream", "aexecute", "aexecute_stream")
_OWNERS: Final = {  # class -> its methods, and what reads a call of them
    "agno.agent.agent:Agent": (_RUNS, runs.begin_agent),
    "agno.team.team:Team": (_RUNS, runs.begin_agent),
    "agno.workflow.workflow:Workflow": (_RUNS, runs.begin_workflow),
    "agno.workflow.step:Step": (_STEPS, runs.begin_step),
    "agno.workflow.steps:Steps": (_STEPS, runs.begin_step),
    "agno.workflow.parallel:Parallel": (_STEPS, runs.begin_step),
    "agno.workflow.condition:Condition": (_STEPS, runs.begin_step),
    "agno.workflow.loop:Loop": (_STEPS, runs.begin_step),
    "agno.workflow.router:Router": (_STEPS, runs.begin_step),
    "agno.tools.function:FunctionCall": (("execute", "aexecute"), tools.begin_tool),
    "agno.knowledge.knowledge:Knowledge": (("search", "asearch"), tools.begin_search),
}


def _wrap_method(hook: Hook, begin: Begin, fn: Callable[..., object], enabled: list[bool]) -> object:
    return trace_any(fn, partial(runs.start_once, hook, begin, function=fn), enabled)


def _list_method_patches(hook: Hook, owner: str) -> Iterator[Patch]:
    methods, begin = _OWNERS[owner]
    for name in methods:
        patch = partial(replace_method, make=partial(_wrap_method, hook, begin))
        yield Patch(f"{owner}.{name}", patch, f"{name} of {owner.rpartition(':')[2]}", is_optional=True)
    if owner.startswith("agno.tools."):
        watch = partial(observe_method, callback=lambda args, _kwargs, _result: note_error(args[0] if args else None))
        yield Patch("agno.tools.function:log_exception", watch, "what a tool has raised, beside its text")
    if owner in {"agno.agent.agent:Agent", "agno.team.team:Team"}:
        yield Patch(f"{owner}.background_executor", carry_executor, "the parent of what memories ask", is_optional=True)


def _install_models(hook: Hook) -> Undo:
    start = CallStarter(runs.start_once, hook, models.begin_invoke)
    methods: Any = dict.fromkeys(("invoke", "ainvoke", "invoke_stream", "ainvoke_stream"), start)
    patch = partial(trace_subclasses, methods=methods, wrap=trace_any)
    return apply_patches([Patch("agno.models.base:Model", patch, "calls of models")])


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        for owner in _OWNERS:
            install = partial(lambda one: apply_patches(_list_method_patches(hook, one)), owner)
            undo.callback(install_when_imported(owner.partition(":")[0], install, loss=owner))
        undo.callback(install_when_imported("agno.models.base", partial(_install_models, hook), loss="calls of models"))
        return undo.pop_all().close


HOOK = Hook("agno>=3,<4", "agno", _install)
autolog = HOOK.autolog
