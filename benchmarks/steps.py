"""How many steps of the interpreter a request costs: figures that no load of the machine can change.

A step is one executed bytecode. They are counted on the caller's thread for a chat and a LangChain run, with the
client's own work stubbed, and on the exporter's threads for traces that are stored in SQLite. What runs in C (SQLite,
orjson, protobuf) is no step, so the exporter's CPU is told too. Another version of Python counts differently.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from step_counter import StepCounter, count_here

WARM_UP = 100  # calls before traces are stored: caches fill, and the exporter's threads have started
TRACES = 300  # that are stored, in one batch or a few


def make_chat() -> Callable[[], object]:
    """Return a chat completion whose request is answered by a stub: what is left is what we add."""
    import openai
    from openai._models import FinalRequestOptions
    from openai.types.chat import ChatCompletion

    from mlspan import integrations

    message = {"role": "assistant", "content": "Hi there!"}
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    answer = ChatCompletion.model_validate({**head, "choices": choices, "usage": usage})
    openai.OpenAI.request = lambda *_args, **_kwargs: answer  # type: ignore[method-assign]
    client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k")
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    body = {"model": "gpt-4o-mini", "messages": asked}
    options = FinalRequestOptions.construct(method="post", url="/chat/completions", json_data=body)
    integrations.openai.autolog()
    return lambda: client.request(ChatCompletion, options)


def make_chain() -> Callable[[], object]:
    """Return a run of the chain of the case ``langchain``: five spans."""
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda

    from mlspan import integrations

    model = GenericFakeChatModel(messages=itertools.repeat(AIMessage(content="Sunny, 21 degrees.")))
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")])
    chain = RunnableLambda(lambda question: {"question": question}) | prompt | model | StrOutputParser()
    integrations.langchain.autolog()
    return lambda: chain.invoke("What is the weather?")


def measure_call(make: Callable[[], Callable[[], object]], *, ours: bool) -> dict[str, float]:
    """Return the steps of one call, as a whole and by function."""
    from mlspan import tracing

    tracing.configure(tracking_uri="none", otlp_endpoint=None)
    return count_here(make(), ours=ours)


def measure_drain(*, traced: bool) -> dict[str, float]:
    """Return what the exporter's threads spend on a trace of one chat: steps by function, or µs of CPU in all."""
    from mlspan import tracing

    counter = StepCounter(ours=True)
    if traced:
        threading.settrace(counter)
    with tempfile.TemporaryDirectory() as folder:
        tracing.configure(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment="steps", otlp_endpoint=None)
        call = make_chat()
        for _ in range(WARM_UP):
            call()
        flush(tracing)
        counter.steps.clear()
        used = read_exporter_seconds()
        for _ in range(TRACES):
            call()
        flush(tracing)
        used = read_exporter_seconds() - used
        found = {name: count / TRACES for name, count in counter.steps.items()}
        tracing.shutdown()
    return found if traced else {"µs": used * 1e6 / TRACES}


def flush(tracing: Any) -> None:
    if not tracing.flush(120):
        raise RuntimeError("not all was stored")


def read_exporter_seconds() -> float:
    """Return the CPU that the exporter's threads have used so far."""
    threads = [one for one in threading.enumerate() if one.name.startswith("mlspan") and one.ident is not None]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(one.ident or 0)) for one in threads)


CASES: dict[str, Callable[[], dict[str, float]]] = {
    "chat": lambda: measure_call(make_chat, ours=False),
    "langchain": lambda: measure_call(make_chain, ours=True),
    "drain": lambda: measure_drain(traced=True),
    "drain-cpu": lambda: measure_drain(traced=False),
}
LABELS = {
    "chat": "a chat, the caller's thread, steps",
    "langchain": "a LangChain run of five spans, the caller's thread, steps of ours",
    "drain": "a trace of one chat into SQLite, the exporter's threads, steps of ours",
    "drain-cpu": "the same, µs of CPU (median of 5)",
}


def measure_apart(case: str) -> dict[str, float]:
    """Measure a case in a process of its own, as each patches what it needs."""
    command = [sys.executable, __file__, "--one", case]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a table of the cases that are asked for, or the functions of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=[*CASES], help=f"of {', '.join(CASES)}")
    parser.add_argument("--functions", type=int, default=0, help="how many of the dearest functions to show")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(CASES[args.one]()))
        return
    print(f"| Python {sys.version_info[0]}.{sys.version_info[1]} | |\n| --- | --- |")
    for case in args.cases:
        rounds = 5 if case == "drain-cpu" else 1
        found = sorted((measure_apart(case) for _ in range(rounds)), key=lambda one: sum(one.values()))[rounds // 2]
        print(f"| {LABELS[case]} | {sum(found.values()):.0f} |", flush=True)
        for name, steps in sorted(found.items(), key=lambda one: -one[1])[: args.functions]:
            print(f"|   {name} | {steps:.1f} |")


if __name__ == "__main__":
    main()
