"""Our processor in a TracerProvider, and the question whether a provider is MLflow's own."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from .compat import list_span_processors


class ForwardingProcessor(SpanProcessor):
    """The one processor that we add to a TracerProvider. It forwards spans to targets that can change.

    The SDK cannot remove a processor, so ours stays and its targets are replaced.
    """

    def __init__(self, targets: tuple[SpanProcessor, ...]) -> None:
        self.targets = targets

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for target in self.targets:
            target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        for target in self.targets:
            target.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        sent = [target.force_flush(timeout_millis) for target in self.targets]  # all, even after a failure
        return all(sent)

    def shutdown(self) -> None:
        """Send what this provider has given us, and nothing more: the targets may serve other providers."""
        self.force_flush(5_000)


def is_mlflow_provider(provider: TracerProvider) -> bool:
    """Return whether *provider* is MLflow's own, which it may set as the global one; MLflow exports those spans itself.

    If the private fields are missing, no provider counts as MLflow's.
    """
    return any(type(processor).__module__.startswith("mlflow.") for processor in list_span_processors(provider))
