"""One case under one tracer, in a process of its own: ``python program.py mlspan|mlflow CASE``. It prints JSON.

The model's server is at ``OPENAI_BASE_URL``, the store at ``MLFLOW_TRACKING_URI``. The programs are plain: what their
authors would write if they had never heard of a tracer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Final, TypedDict

MESSAGES: Final[Any] = [{"role": "user", "content": "hi"}]


def turn_on(tracer: str, *libraries: str) -> None:
    """Turn on the *tracer*'s integration of each library, with its defaults."""
    if tracer == "mlspan":
        from mlspan import integrations

        for library in libraries:
            getattr(integrations, library).autolog()
    else:
        import mlflow

        for library in libraries:
            getattr(mlflow, library).autolog()


def leave_a_stream_early(tracer: str) -> None:
    """Read two chunks of five, and close the stream."""
    turn_on(tracer, "openai")
    import openai

    with openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True) as stream:
        for number, _ in enumerate(stream):
            if number == 1:
                break


def ask_by_langchain(tracer: str) -> None:
    """Call a model of LangChain's once, with the integrations of LangChain and of OpenAI's client both on."""
    turn_on(tracer, "langchain", "openai")
    from langchain_openai import ChatOpenAI

    ChatOpenAI(model="gpt-4o-mini").invoke("hi")


def interrupt_a_graph(tracer: str) -> None:
    """Have a LangGraph graph wait for a person."""
    turn_on(tracer, "langchain")
    if tracer == "mlspan":
        turn_on(tracer, "langgraph")
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, StateGraph
    from langgraph.types import interrupt

    class State(TypedDict):
        text: str

    def ask_a_person(_: State) -> State:
        return {"text": interrupt("may I?")}

    graph = StateGraph(State)
    graph.add_node("ask a person", ask_a_person)
    graph.add_edge(START, "ask a person")
    graph.compile(checkpointer=InMemorySaver()).invoke({"text": ""}, {"configurable": {"thread_id": "1"}})


def read_a_raw_response(tracer: str) -> None:
    """Ask by ``with_raw_response``, as programs do that need a header."""
    turn_on(tracer, "openai")
    import openai

    openai.OpenAI().chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=MESSAGES).parse()


def have_a_provider(tracer: str) -> None:
    """Set a TracerProvider with an exporter of the application's own, and ask; count the model calls it exports."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    seen = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(seen))
    trace.set_tracer_provider(provider)
    turn_on(tracer, "openai")
    import openai

    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    print(json.dumps({"exported": len(seen.get_finished_spans())}))


def flush(tracer: str) -> None:
    if tracer == "mlspan":
        from mlspan import tracing

        tracing.flush(250)  # seconds: the first one imports MLflow
    else:
        import mlflow

        mlflow.flush_trace_async_logging()


CASES: Final[dict[str, Callable[[str], None]]] = {
    case.__name__: case
    for case in (leave_a_stream_early, ask_by_langchain, interrupt_a_graph, read_a_raw_response, have_a_provider)
}

if __name__ == "__main__":
    CASES[sys.argv[2]](sys.argv[1])
    flush(sys.argv[1])
