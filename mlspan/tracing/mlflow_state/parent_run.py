"""The parent of runs: a run that a task starts in another process becomes a child of the caller's run."""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from ..._import_waiting import install_when_imported
from ..._patching import Patch, Undo, apply_patches, install_until_shutdown, remember_undo, resolve_target
from ..._private_names import report_missing_name

_REGISTRY_MODULE: Final = "mlflow.tracking.context.registry"
# Private names, each with what is lost without it.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_run_context_provider_registry": "the run of a task is no child of the caller's run",
    "_registry": "mlspan's provider of run contexts stays there after a shutdown, and does nothing",
}
parent_run: ContextVar[str | None] = ContextVar("mlspan_parent_run", default=None)


class _ParentRunProvider:
    """A provider in MLflow's registry of run contexts, which gives a new run the tags of the context that it is in."""

    def in_context(self) -> bool:
        return parent_run.get() is not None

    def tags(self) -> dict[str, str | None]:
        return {"mlflow.parentRunId": parent_run.get()}


def provide_parent_runs() -> None:
    """Register the provider, once, as soon as MLflow is imported, until ``tracing.shutdown()``."""
    install_until_shutdown("parent runs", partial(install_when_imported, _REGISTRY_MODULE, _patch_registry))


def _patch_registry() -> Undo:
    loss = "that the run of a task belongs to the caller's run"
    return apply_patches([Patch(f"{_REGISTRY_MODULE}:_run_context_provider_registry", _register_provider, loss)])


def _register_provider(target: str) -> Undo:
    """Register the provider. MLflow has no public way to remove one: without its private list, ours stays, silent."""
    registry: Any = getattr(*resolve_target(target))
    before = list(registry)
    registry.register(_ParentRunProvider)
    added = [one for one in registry if not any(one is other for other in before)]

    def unregister() -> None:
        providers: list[object] | None = getattr(registry, "_registry", None)
        if providers is None:
            report_missing_name("MLflow", "_registry", PRIVATE_NAMES["_registry"])
            return
        for one in added:
            if one in providers:
                providers.remove(one)

    return remember_undo(unregister)
