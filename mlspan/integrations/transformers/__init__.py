"""Hugging Face's transformers, whose models run in this process: pipelines, and ``generate``.

The modules of the two are imported when they are needed, and hooked then: nothing is imported for us.
"""

from __future__ import annotations

import functools
from typing import Final

from ...hooks.hook import Hook, trace_methods
from ...hooks.patching import Patch, Undo, apply_patches, observe_method
from .generation import begin_generation, note_tokens
from .pipelines import begin_forward, begin_pipeline

__all__ = ["HOOK", "autolog"]

_VERSIONS: Final = "transformers>=4.50,<6"
_PIPELINE: Final = "transformers.pipelines.base:Pipeline"


def _install_generation(hook: Hook) -> Undo:
    generate = trace_methods({"transformers.generation.utils:GenerationMixin.generate": begin_generation})(hook)
    note = functools.partial(observe_method, callback=note_tokens)
    put = "transformers.generation.streamers:TextStreamer.put"
    streams = apply_patches([Patch(put, note, "the time to the first token of a stream")])

    def undo() -> None:
        streams()
        generate()

    return undo


_PIPELINES: Final = Hook(
    _VERSIONS,
    "transformers.pipelines.base",
    trace_methods({f"{_PIPELINE}.__call__": begin_pipeline, f"{_PIPELINE}.forward": begin_forward}),
)
HOOK = Hook(_VERSIONS, "transformers.generation.utils", _install_generation, also=(_PIPELINES,))
autolog = HOOK.autolog
