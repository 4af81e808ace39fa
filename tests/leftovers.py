"""What mlspan has left in other libraries: a program that turns everything on, uses it, turns it off, and looks.

``python leftovers.py before|after|never STORE``: import the libraries before autolog, after it, or not at all. It does
so twice, and ends once with ``autolog(disable=True)`` and then ``tracing.shutdown()``, once in the other order. What is
left is printed, one place a line.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from typing import Any, Final

from leftover_places import Places, find_changes, find_ours, take_snapshot

MODULES: Final = [
    "opentelemetry.sdk.trace",
    "opentelemetry.sdk.metrics",
    "openai",
    "agents",
    "openai.resources.realtime.realtime",
    "langchain_core.embeddings",
    "langchain_core.retrievers",
    "langchain_core.language_models.llms",
    "langchain_core.language_models.fake_chat_models",
    "langgraph.graph",
    "langgraph.pregel",
    "llama_index.core",
    "mlflow",
    "mlflow.genai",
    "mlflow.sklearn",
    "mlflow.pyfunc",
    "sklearn.linear_model",
    "mlflow.tracking.context.registry",
    "joblib",
    "joblib.externals.loky.process_executor",
    "multiprocessing.pool",
    "concurrent.futures.process",
    "celery",
]
ORDERS: Final = ("disable first", "shutdown first")


class AtExit:
    """The functions of mlspan that are registered with atexit."""

    def __init__(self) -> None:
        self.ours: list[Any] = []
        register, unregister = atexit.register, atexit.unregister

        def note(fn: Any, *args: Any, **kwargs: Any) -> Any:
            if str(getattr(fn, "__module__", "")).startswith("mlspan"):
                self.ours.append(fn)
            return register(fn, *args, **kwargs)

        def forget(fn: Any) -> None:
            self.ours = [one for one in self.ours if one != fn]
            unregister(fn)

        atexit.register, atexit.unregister = note, forget  # type: ignore[assignment]


def import_libraries() -> None:
    """Import what is installed of the libraries that are hooked into, in all their parts that hold patch points."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def double(number: int) -> int:
    return 2 * number


def use_everything() -> None:
    """Make a call of each library, inside a span and a task of another process."""
    from mlspan import tracing
    from mlspan.tracing import propagation

    carried: Any = propagation.capture_context()
    with (
        propagation.restore_context({**carried, "process": "another"}) if carried else tracing.span("no task"),
        tracing.span("all"),
    ):
        for use in (use_openai, use_agents, use_langchain, use_sklearn, use_prompt, use_pool):
            use()


def use_openai() -> None:
    import openai

    httpx: Any = __import__("httpx2" if openai.__version__ >= "3" else "httpx")  # what the client itself uses
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    client = openai.OpenAI(api_key="k", base_url="http://127.0.0.1/v1", http_client=httpx.Client(transport=transport))
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])


def use_agents() -> None:
    import agents

    with agents.trace("run"), agents.custom_span("step"):
        pass


def use_langchain() -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding
    from langchain_core.language_models.fake_chat_models import FakeListChatModel
    from langchain_core.runnables import RunnableLambda
    from langgraph.graph import END, START, StateGraph

    chain: Any = RunnableLambda(str) | FakeListChatModel(responses=["yes"])
    chain.invoke("really?")
    list(chain.stream("really?"))
    graph = StateGraph(dict).add_node("a", lambda state: state).add_edge(START, "a").add_edge("a", END)
    graph.compile().invoke({"x": 1})
    DeterministicFakeEmbedding(size=2).embed_query("x")


def use_sklearn() -> None:
    import mlflow
    from sklearn.linear_model import LinearRegression

    with mlflow.start_run():
        LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])


def use_prompt() -> None:
    import mlflow

    mlflow.genai.register_prompt("greeting", "hi {{name}}")
    mlflow.genai.load_prompt("prompts:/greeting/1")


def use_pool() -> None:
    from multiprocessing.pool import ThreadPool

    with ThreadPool(1) as pool:
        assert pool.apply_async(double, (2,)).get(60) == 4


def let_libraries_settle() -> None:
    """Import and use the libraries once, so that what they change themselves at their first use is changed."""
    import_libraries()
    import agents
    import mlflow
    from opentelemetry.sdk.trace import TracerProvider

    TracerProvider().get_tracer("settle")  # it adds a filter of warnings
    agents.set_trace_processors([])
    mlflow.sklearn.autolog(silent=True)
    for use in (use_openai, use_agents, use_langchain, use_sklearn, use_prompt, use_pool):
        use()
    mlflow.sklearn.autolog(disable=True, silent=True)


def end(order: str) -> None:
    """Turn everything off, in one of the two orders."""
    from mlspan import integrations, tracing

    if order == "disable first":
        integrations.autolog(disable=True)
    assert tracing.shutdown(60), "not everything was sent"
    if order == "shutdown first":
        integrations.autolog(disable=True)


def main(imports: str, store: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = store
    at_exit = AtExit()
    before: Places | None = None
    if imports == "before":
        let_libraries_settle()
        before = take_snapshot()
    from mlspan import integrations, tracing

    left: list[str] = []
    for order in ORDERS:
        tracing.configure(tracking_uri=store)
        integrations.autolog(silent=True)
        if imports == "after":
            import_libraries()
        if imports != "never":
            use_everything()
        end(order)
        found = [*find_ours(), *(find_changes(before) if before is not None else ())]
        left += [f"{order}: {line}" for line in found] + [f"{order}: atexit: {fn}" for fn in at_exit.ours]
    print("LEFT", *left, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
