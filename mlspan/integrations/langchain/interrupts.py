"""Interrupts of LangGraph: which runs wait for a person, and what each of them asks."""

from __future__ import annotations

from ..._shape import get_field
from ...tracing.operations import semconv as sc
from .runnable_values import simplify_runnable_value
from .runs import langchain_runs


def mark_interrupted(key: object, error: BaseException) -> None:
    """Mark a run and all runs above it as interrupted, and keep what the interrupts ask.

    Several nodes may wait at once, and a graph reports the interrupts of its subgraphs again: each is told once. An
    exception that is no interrupt of LangGraph marks nothing.

    Args:
        key: the key of the run that *error* has ended.
        error: LangGraph's ``GraphInterrupt``, with its interrupts as the first argument.
    """
    if not any(cls.__name__ == "GraphInterrupt" for cls in type(error).__mro__):
        return
    raised = error.args[0] if error.args and isinstance(error.args[0], (list, tuple)) else ()
    asked = {get_field(one, "id") or id(one): simplify_runnable_value(getattr(one, "value", one)) for one in raised}
    above = key
    while above is not None:
        if (run := langchain_runs.find_run(above)) is None:
            return
        operation = langchain_runs.find_operation(above)
        if operation is not None:
            operation.record.extra[sc.INTERRUPTED] = True
            run.interrupts = {**(run.interrupts or {}), **asked}
        above = run.parent


def add_interrupts(outputs: object, waits: dict[object, object] | None) -> object:
    """Return a run's outputs with the pending interrupts under ``__interrupt__``, as LangGraph returns them."""
    if waits is None:
        return outputs
    return {**(outputs if isinstance(outputs, dict) else {}), "__interrupt__": list(waits.values())}
