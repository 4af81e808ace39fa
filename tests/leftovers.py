"""What mlspan has left in other libraries: a program that turns everything on, uses it, turns it off, and looks.

``python leftovers.py before|after|never STORE``: import the libraries before autolog, after it, or not at all. What is
left is printed, one place a line.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import signal
import sys
import types
from collections.abc import Iterator
from typing import Any, Final

LIBRARIES: Final = frozenset(
    [
        "openai",
        "agents",
        "langchain_core",
        "langgraph",
        "mlflow",
        "sklearn",
        "joblib",
        "loky",
        "celery",
        "concurrent",
        "multiprocessing",
        "asyncio",
        "threading",
        "grpc",
        "opentelemetry",
        "wrapt",
        "httpx",
        "logging",
        "builtins",
    ]
)
Places = dict[str, Any]


def entries() -> Iterator[tuple[str, Any]]:
    """Yield each attribute of each module and class of the libraries, with its place."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in LIBRARIES or not isinstance(module, types.ModuleType):
            continue
        for key, value in list(vars(module).items()):
            yield f"{name}:{key}", value
            if isinstance(value, type) and value.__module__ == name:
                for attribute, entry in list(vars(value).items()):
                    yield f"{name}:{key}.{attribute}", entry
            elif getattr(type(value), "__module__", None) == name:
                for attribute, entry in list((getattr(value, "__dict__", None) or {}).items()):
                    yield f"{name}:{key}.{attribute}", entry


def registries() -> Iterator[tuple[str, Any]]:
    """Yield what is registered with the interpreter and with logging."""
    yield "sys.meta_path", list(sys.meta_path)
    yield "SIGTERM", signal.getsignal(signal.SIGTERM)
    for name, logger in [("root", logging.root), *logging.root.manager.loggerDict.items()]:
        if isinstance(logger, logging.Logger) and not name.startswith("mlspan"):
            yield (
                f"logger {name}",
                [*logger.filters, *logger.handlers, *(f for h in logger.handlers for f in h.filters)],
            )


def is_ours(value: Any) -> bool:
    """Return whether *value* was made by mlspan: a function, an object of a class, or a container that holds one."""
    return any(_is_made_by_us(one) for one in _unfold(value, 4))


def _unfold(value: Any, depth: int) -> Iterator[Any]:
    yield value
    if depth:
        if type(value) in {list, tuple, set, frozenset} and len(value) < 5000:
            inner = list(value)
        elif type(value) is dict and len(value) < 5000:
            inner = list(value.values())
        else:
            names = (
                "__func__",
                "__wrapped__",
                "fget",
                "func",
                "__closure__",
                "cell_contents",
                "_registry",
                "_processors",
            )
            inner = [found for name in names if (found := _get(value, name)) is not None]
        for one in inner:
            yield from _unfold(one, depth - 1)


def _get(value: Any, name: str) -> Any:
    try:
        return inspect.getattr_static(value, name) if name != "cell_contents" else value.cell_contents
    except (AttributeError, ValueError):
        return None


def _is_made_by_us(value: Any) -> bool:
    code = getattr(value, "__code__", None) if isinstance(value, types.FunctionType) else None
    if code is not None:
        return "/mlspan/" in code.co_filename.replace("\\", "/")
    owner = value if isinstance(value, type) else type(value)
    return any(str(base.__module__).partition(".")[0] == "mlspan" for base in owner.__mro__)


def take_snapshot() -> Places:
    """Return what can be patched: functions, classes, descriptors, and the registries."""
    fixed = {place: value for place, value in entries() if callable(value) or hasattr(type(value), "__get__")}
    return {**fixed, **dict(registries())}


def find_leftovers(before: Places | None) -> list[str]:
    """Return the places that hold something of ours, and those that are not what they were *before*."""
    left = [f"{place} is ours: {value!r:.90}" for place, value in [*entries(), *registries()] if is_ours(value)]
    for place, value in (before or {}).items():
        now = dict(registries()).get(place) if isinstance(value, list) else CURRENT.get(place)
        if isinstance(value, list) or place in CURRENT:
            same = _is_same(value, now)
            if not same and not place.startswith(ALLOWED):
                left.append(f"{place} was {value!r:.90} and is {now!r:.90}")
    return left


def _is_same(before: Any, now: Any) -> bool:
    if isinstance(before, list):  # an inert finder of wrapt's may stay: taking it away could disturb another import
        kept = [one for one in now or () if type(one).__name__ != "ImportHookFinder"]
        return [id(one) for one in before if type(one).__name__ != "ImportHookFinder"] == [id(one) for one in kept]
    return before is now or isinstance(now, (types.BuiltinMethodType, types.MethodType))


CURRENT: Places = {}
ALLOWED: Final = (
    "logger mlflow",  # its own handler, which it adds at its first line
    "logger alembic",
)


class AtExit:
    """Counts the functions of ours that are registered with atexit."""

    def __init__(self) -> None:
        self.ours: list[Any] = []
        register, unregister = atexit.register, atexit.unregister

        def note(fn: Any, *args: Any, **kwargs: Any) -> Any:
            if is_ours(fn):
                self.ours.append(fn)
            return register(fn, *args, **kwargs)

        def forget(fn: Any) -> None:
            self.ours = [one for one in self.ours if one != fn]
            unregister(fn)

        atexit.register, atexit.unregister = note, forget  # type: ignore[assignment]


def import_libraries() -> None:
    """Import what is installed of the libraries that are hooked into, in all their parts that hold patch points."""
    import importlib

    for name in [
        "openai",
        "agents",
        "openai.resources.realtime.realtime",
        "langchain_core.embeddings",
        "langchain_core.retrievers",
        "langchain_core.language_models.llms",
        "langgraph.graph",
        "langgraph.pregel",
        "mlflow",
        "mlflow.sklearn",
        "mlflow.pyfunc",
        "sklearn.linear_model",
        "mlflow.tracking.context.registry",
        "joblib",
        "joblib.externals.loky.process_executor",
        "multiprocessing.pool",
        "concurrent.futures.process",
        "celery",
    ]:
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def double(number: int) -> int:
    return 2 * number


def use_everything() -> None:
    """Make a call of each library, inside a span and a run."""
    from mlspan import tracing
    from mlspan.tracing import propagation

    carried: Any = propagation.capture_context()
    with (
        propagation.restore_context({**carried, "process": "another"}) if carried else tracing.span("no task"),
        tracing.span("all"),
    ):
        for use in (use_openai, use_agents, use_langchain, use_sklearn, use_pool):
            use()


def use_openai() -> None:
    import httpx
    import openai

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
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(dict).add_node("a", lambda state: state).add_edge(START, "a").add_edge("a", END)
    graph.compile().invoke({"x": 1})
    DeterministicFakeEmbedding(size=2).embed_query("x")


def use_sklearn() -> None:
    import mlflow
    from sklearn.linear_model import LinearRegression

    with mlflow.start_run():
        LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])


def use_pool() -> None:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(double, 2).result(60) == 4


def main(order: str, store: str) -> None:
    import os

    os.environ["MLFLOW_TRACKING_URI"] = store
    at_exit = AtExit()
    before = None
    if order == "before":
        import_libraries()
        import agents
        import mlflow

        agents.set_trace_processors([])
        mlflow.sklearn.autolog(silent=True)  # once, so that what MLflow changes for itself is changed by now
        mlflow.sklearn.autolog(disable=True, silent=True)
        before = take_snapshot()
    from mlspan import integrations, tracing

    tracing.configure(tracking_uri=store)
    integrations.autolog(silent=True)
    if order == "after":
        import_libraries()
    if order != "never":
        use_everything()
    integrations.autolog(disable=True)
    assert tracing.shutdown(60), "not everything was sent"
    CURRENT.update(entries())
    CURRENT.update(registries())
    left = find_leftovers(before)
    left += [f"atexit: {fn}" for fn in at_exit.ours]
    print("LEFT", *left, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
