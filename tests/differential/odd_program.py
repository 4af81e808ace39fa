"""A program for an interpreter with odd flags: ``python odd_program.py bare|traced MODELS RECEIVER``.

It is traced line by line, its warnings are errors, its clients are subclasses that look at whoever asks them, its
loggers have a handler that raises, and threads of its own call on while the interpreter ends.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import multiprocessing
import sys
import threading
import warnings
from types import FrameType
from typing import Any

import openai

HELLO: Any = [{"role": "user", "content": "hello"}]
lines = 0


def count_lines(frame: FrameType, event: str, _: object) -> Any:
    global lines
    lines += event == "line"
    return count_lines


class Slotted(openai.OpenAI):
    __slots__ = ("mine",)


class Raising(openai.OpenAI):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(f"asked for {name}")


class Noting(openai.OpenAI):
    def __getattribute__(self, name: str) -> Any:
        asked.add(name)
        return super().__getattribute__(name)


class Failing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError(record.getMessage())


asked: set[str] = set()


def ask(cls: Any = openai.OpenAI, *, stream: bool = False) -> Any:
    with cls(base_url=sys.argv[2], api_key="k", max_retries=0) as client:
        answer = client.chat.completions.create(model="m", messages=HELLO, stream=stream)
        return [chunk.id for chunk in answer] if stream else answer.choices[0].message.content


async def aask() -> Any:
    async with openai.AsyncOpenAI(base_url=sys.argv[2], api_key="k", max_retries=0) as client:
        answer = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        return [chunk.id async for chunk in answer]


def ask_for_ever() -> None:
    while True:
        ask()


def ask_late(ended: threading.Thread) -> None:
    ended.join()
    print("late", ask())


def turn_on() -> None:
    from mlspan import integrations, tracing

    tracing.configure(tracking_uri="none", otlp_endpoint=sys.argv[3])
    integrations.autolog(silent=True)


def main() -> None:
    logging.getLogger().addHandler(Failing())
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it tells of what takes long, under -X dev
    warnings.simplefilter("error")
    sys.settrace(count_lines)
    print(ask(), ask(stream=True), asyncio.run(aask()))
    for cls in (Slotted, Raising, Noting):
        print(cls.__name__, ask(cls))
    assert sys.gettrace() is count_lines
    sys.settrace(None)
    print(lines > 1000, sorted(name for name in asked if "mlspan" in name))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(ask))
        pool.close()
        pool.join()
    atexit.register(lambda: print("at exit", ask()))
    threading.Thread(target=ask_late, args=(threading.main_thread(),)).start()
    threading.Thread(target=ask_for_ever, daemon=True).start()
    left = openai.OpenAI(base_url=sys.argv[2], api_key="k").chat.completions.create(
        model="m", messages=HELLO, stream=True
    )
    next(iter(left))


if sys.argv[1] == "traced":
    turn_on()
if __name__ == "__main__":
    main()
