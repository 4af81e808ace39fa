"""Hold private names of OpenTelemetry in one package, and show that mlspan works on an SDK that lacks one of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from renamed_library import RENAMING

import mlspan
from mlspan.tracing.otel.compat import PRIVATE_NAMES

ROOT = Path(mlspan.__file__).parent
OWNER = ROOT / "tracing" / "otel"
# Names that other libraries have too: as a text they say nothing.
COMMON_NAMES = {
    "_client",
    "_headers",
    "_timeout",
    "_endpoint",
    "_name",
    "_context",
    "_kind",
    "_parent",
    "_root",
    "_dict",
}

# Runs on an SDK in which every module of OpenTelemetry has another name in the place of one.
PROGRAM = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from mlspan import tracing
from mlspan.tracing.export.otlp.codec import decode_span, encode_each_span
from mlspan.tracing.export.redaction import SpanRedactor
from mlspan.tracing.otel import compat

exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracing.configure(tracking_uri="none")
with tracing.span("outer"):
    with tracing.span("inner", attributes={"a": 1}):
        pass
spans = exporter.get_finished_spans()
assert [span.name for span in spans] == ["inner", "outer"], spans
assert spans[0].parent.span_id == spans[1].context.span_id
for encoded in encode_each_span([SpanRedactor(lambda text: text)(span) for span in spans]):
    again = decode_span(encoded)
    assert again.name in {"inner", "outer"}
    assert again.attributes is not None
grpc = OTLPSpanExporter(endpoint="http://127.0.0.1:1")
compat.find_grpc_call(grpc)
grpc.shutdown()
tracing.shutdown()
print(*lines, sep="\\n")
"""


def run_without(name: str) -> list[str]:
    """Return the lines that mlspan logs on an SDK without *name*."""
    command = [sys.executable, "-W", "ignore", "-c", RENAMING + PROGRAM, "opentelemetry", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_a_private_name_is_gone(name: str) -> None:
    """Spans arrive all the same, and one line says what is lost."""
    lines = run_without(name)
    assert [line for line in lines if PRIVATE_NAMES[name] in line] == [
        f"mlspan: this version of OpenTelemetry has no {name}, so {PRIVATE_NAMES[name]}"
    ]


def test_nothing_is_said_where_all_is_there() -> None:
    assert run_without("_a_name_that_nobody_uses") == []


def foreign_names(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what names a private of OpenTelemetry: an attribute of something else than ``self``, a text, an import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE_NAMES:
            if not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}):
                yield node
        elif (isinstance(node, ast.Constant) and node.value in PRIVATE_NAMES.keys() - COMMON_NAMES) or (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("opentelemetry")
            and ("._" in (node.module or "") or any(alias.name in PRIVATE_NAMES for alias in node.names))
        ):
            yield node


def test_private_names_stand_in_one_package() -> None:
    """No module but those of ``tracing/otel`` names a private of OpenTelemetry."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]
        for path in sorted(ROOT.rglob("*.py"))
        if OWNER not in path.parents
        for node in foreign_names(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "span._attributes",
        "provider._active_span_processor",
        "getattr(provider, '_active_span_processor')",
        "from opentelemetry.attributes import BoundedAttributes",
        "from opentelemetry.exporter.otlp.proto.common._internal import trace_encoder",
    ],
)
def test_a_private_name_is_found(code: str) -> None:
    """The check can fail."""
    assert list(foreign_names(ast.parse(code)))
