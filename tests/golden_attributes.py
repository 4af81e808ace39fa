"""Golden lists of attributes: which names each span of a scenario has, those at its start apart.

They stand in ``golden/``, a file for each scenario. ``MLSPAN_RENEW_GOLDEN=1 pytest tests/integrations -k golden``
writes them anew, in the environment of the main tests or in that of a nox session (``nox -s google_genai llama_index
autogen``). Read the difference before you commit it.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

FOLDER: Final = Path(__file__).parent / "golden"
RENEWED: Final = os.environ.get("MLSPAN_RENEW_GOLDEN") == "1"


class StartNames(SpanProcessor):
    """The names of the attributes that each span has when it starts: what a sampler sees."""

    def __init__(self) -> None:
        self.names: dict[int, list[str]] = {}
        self._is_open = False

    def __enter__(self) -> None:
        self._is_open = True

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        self.names.clear()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._is_open:
            self.names[span.context.span_id] = sorted(span.attributes or {})


def describe_spans(ended: list[ReadableSpan], started: StartNames) -> list[dict[str, Any]]:
    """Return name, parent, kind and attributes' names of each span, in the order in which they started."""
    names = {span.context.span_id: span.name for span in ended}
    described = []
    for span in ended:
        start = started.names[span.context.span_id]
        parent = names.get(span.parent.span_id) if span.parent else None
        end = sorted(set(span.attributes or {}) - set(start))
        described.append({"name": span.name, "parent": parent, "kind": span.kind.name, "start": start, "end": end})
    return described


def compare_with_golden(name: str, library: str, found: list[dict[str, Any]]) -> None:
    """Compare the spans of the scenario *name* with its file, or write that.

    The file says with which version of *library* it was written; older versions may tell less, and are not compared.
    """
    file, installed = FOLDER / f"{name}.json", version(library)
    if RENEWED:
        lines = ",\n".join(f"  {json.dumps(span)}" for span in found)
        file.write_text(f'{{"library": "{library}", "version": "{installed}", "spans": [\n{lines}\n]}}\n')
    golden = json.loads(file.read_text())
    if _read_version(installed) < _read_version(golden["version"]):
        pytest.skip(f"the list is that of {library} {golden['version']}")
    assert found == golden["spans"]


def _read_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])
