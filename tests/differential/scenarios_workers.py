"""Scenarios: tasks in threads and in other processes, whose functions we replace where they are sent."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.pool
import os
from collections.abc import Callable
from typing import Any, Final

from harness import Tools, scenario

FORK: Final = multiprocessing.get_context("fork")


def double(number: int) -> int:
    if number < 0:
        raise ValueError(f"negative: {number}")
    return 2 * number


def name_of(fn: Any) -> tuple[str, str]:
    return fn.__name__, fn.__module__


def add(a: int, b: int) -> int:
    return a + b


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("stays here")


def _leave(_: int) -> None:
    os._exit(3)


def _called_back(pool: Any) -> Any:
    seen: list[Any] = []
    results = [
        pool.apply_async(double, (one,), callback=seen.append, error_callback=lambda error: seen.append(repr(error)))
        for one in (1, -1)
    ]
    for result in results:
        result.wait(30)
    return sorted(map(str, seen)), [result.successful() for result in results]


POOLED: Final[dict[str, Callable[[Any], Any]]] = {
    "apply": lambda pool: pool.apply(double, (2,)),
    "apply with names": lambda pool: pool.apply(add, kwds={"a": 1, "b": 2}),
    "apply, failing": lambda pool: pool.apply(double, (-1,)),
    "apply, wrong arity": lambda pool: pool.apply(double, (1, 2, 3)),
    "apply_async": lambda pool: pool.apply_async(func=double, args=(2,)).get(30),
    "callbacks": _called_back,
    "map": lambda pool: pool.map(double, range(5)),
    "map, failing": lambda pool: pool.map(double, [1, -1]),
    "imap": lambda pool: list(pool.imap(double, range(5))),
    "imap_unordered": lambda pool: sorted(pool.imap_unordered(double, range(5))),
    "starmap": lambda pool: pool.starmap(add, [(1, 2), (3, 4)]),
    "a function as an argument": lambda pool: pool.apply(name_of, (double,)),
    "a lambda": lambda pool: pool.apply(lambda: 1),
    "an unpicklable argument": lambda pool: pool.apply(double, (Unpicklable(),)),
    "after the end": lambda pool: (pool.terminate(), pool.apply(double, (1,))),
}


@scenario(POOLED)
def pooled(tools: Tools, run: Callable[[Any], Any]) -> Any:
    with FORK.Pool(1) as pool:
        try:
            return run(pool)
        finally:
            pool.terminate()
            pool.join()


@scenario({key: POOLED[key] for key in ("apply", "map, failing", "callbacks", "a lambda")})
def pooled_threads(tools: Tools, run: Callable[[Any], Any]) -> Any:
    with multiprocessing.pool.ThreadPool(1) as pool:
        try:
            return run(pool)
        finally:
            pool.terminate()
            pool.join()


EXECUTED: Final[dict[str, Callable[[Any], Any]]] = {
    "submit": lambda pool: pool.submit(double, 2).result(30),
    "submit with names": lambda pool: pool.submit(add, a=1, b=2).result(30),
    "submit, failing": lambda pool: pool.submit(double, -1).result(30),
    "map": lambda pool: list(pool.map(double, range(5))),
    "map, failing": lambda pool: list(pool.map(double, [1, -1])),
    "submit nothing": lambda pool: pool.submit(),
    "an exception": lambda pool: [type(pool.submit(double, -1).exception(30)).__name__],
    "a worker that dies": lambda pool: pool.submit(_leave, 1).result(30),
    "after the end": lambda pool: (pool.shutdown(), pool.submit(double, 1)),
}


@scenario(EXECUTED)
def executed(tools: Tools, run: Callable[[Any], Any]) -> Any:
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=FORK) as pool:
        return run(pool)


def _in_child(code: int) -> None:
    if code:
        raise SystemExit(code)


@scenario({"0": 0, "5": 5})
def child(tools: Tools, code: int) -> Any:
    with tools.block("span"):
        process = FORK.Process(target=_in_child, args=(code,))
        process.start()
        process.join(30)
    return process.exitcode


@scenario()
def signatures(tools: Tools) -> Any:
    return [multiprocessing.pool.Pool.apply_async, concurrent.futures.ProcessPoolExecutor.submit]
