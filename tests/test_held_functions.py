"""Functions that are called by who has imported them before they were patched."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import pickle
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from mlspan.hooks.held_functions import redirect_function
from mlspan.hooks.patching import Installation, trace_method

SOURCE = """
import functools, warnings

def add(one, two=2, *, three: int = 3) -> int:
    "Add."
    if one == "warn":
        warnings.warn("no number", stacklevel=2)
    return (one, two, three)

def check(func, limit=9):
    @functools.wraps(func)
    def checked(*args, **kwargs):
        if args[0] == limit:
            raise ValueError(limit)
        return func(*args, **kwargs)
    return checked

checked = check(add)
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    import sys

    made = ModuleType("held_library")
    monkeypatch.setitem(sys.modules, "held_library", made)
    exec(compile(SOURCE, "held_library.py", "exec"), made.__dict__)  # a library of the test's own
    return made


def redirect(module: ModuleType, name: str, seen: list[object]) -> Any:
    """Redirect calls to a wrapper that notes the arguments and calls what is in the module."""

    def wrapper(*args: Any, **kwargs: Any) -> object:
        seen.append((args, kwargs))
        return bottom(*args, **kwargs)

    ready: list[bool] = []  # other threads may call at once
    undo = redirect_function(module, name, lambda args: wrapper if ready and args[:1] != ("inside",) else None)
    bottom = getattr(module, name)
    ready.append(True)
    return undo


@pytest.mark.parametrize("name", ["add", "checked"], ids=["plain", "with a closure"])
def test_every_holder_is_redirected_and_brought_back(module: ModuleType, name: str) -> None:
    """By another name, in a partial, a dict or a default; a call that is the library's own runs the function."""
    function, seen = getattr(module, name), []
    held: dict[str, Any] = {"partial": functools.partial(function, 1), "default": lambda it=function: it(1)}
    code, said, source = function.__code__, str(inspect.signature(function)), dict(vars(function))
    undo = redirect(module, name, seen)
    assert [call() for call in held.values()] + [function(1, three=4)] == [(1, 2, 3), (1, 2, 3), (1, 2, 4)]
    assert seen == [((1,), {}), ((1,), {}), ((1,), {"three": 4})]
    assert function("inside") == ("inside", 2, 3)
    assert len(seen) == 3
    assert str(inspect.signature(function)) == said
    undo()
    assert (function.__code__, vars(function), getattr(module, name)) == (code, source, function)
    assert (function(1), len(seen)) == ((1, 2, 3), 3)


def test_it_stays_the_object_that_it_was(module: ModuleType) -> None:
    """Equal, found by its name where it is defined, and with the errors of wrong arguments."""
    module.other = module.add  # as a package shows a function of its module
    undo = redirect(module, "other", [])
    assert pickle.loads(pickle.dumps(module.add)) is module.add
    with pytest.raises(TypeError, match=r"add\(\) got an unexpected keyword argument 'four'"):
        module.add(1, four=4)
    undo()
    assert module.other is module.add


def test_errors_and_warnings_name_the_caller(module: ModuleType) -> None:
    held, undo = module.checked, redirect(module, "checked", [])
    with pytest.raises(ValueError, match="9") as raised:
        held(9)
    for frame, _ in traceback.walk_tb(raised.tb):  # a function with free variables, which a debugger reads
        assert isinstance(dict(frame.f_locals), dict)
    undo()
    held, undo = module.add, redirect_function(module, "add", lambda _: None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        held("warn")
    assert [warning.filename for warning in caught] == [__file__]
    undo()


def test_what_others_have_put_there_since(module: ModuleType) -> None:
    """Somebody who patches over us with a function that calls the one they hold is called once, and stays."""
    function, seen, calls = module.add, [], []

    def theirs(*args: Any) -> object:
        calls.append(args)
        return function(*args)

    undo = redirect(module, "add", seen)
    module.add = theirs
    assert (module.add(1), calls, seen) == ((1, 2, 3), [(1,)], [((1,), {})])
    undo()
    assert module.add is theirs
    assert (module.add(1), len(seen)) == ((1, 2, 3), 1)


def test_a_function_that_others_have_replaced_since(module: ModuleType) -> None:
    """Who holds it is redirected the next time as well, and so is who holds what has taken its place, once a call."""
    function, seen, inside = module.add, [], []

    def wrapper(*args: Any) -> object:
        seen.append(args)
        inside.append(args)
        try:
            return bottom(*args)
        finally:
            inside.clear()

    def redirect_unless_inside() -> Any:
        return redirect_function(module, "add", lambda _: None if inside else wrapper)

    @functools.wraps(function)
    def theirs(*args: Any) -> object:
        return function(*args)

    redirect_unless_inside()()
    module.add = theirs
    undo, bottom = redirect_unless_inside(), module.add
    assert [(held(1), len(seen)) for held in (function, theirs)] == [((1, 2, 3), 1), ((1, 2, 3), 2)]
    undo()
    assert (function(1), theirs(1), module.add, len(seen)) == ((1, 2, 3), (1, 2, 3), theirs, 2)
    module.add = function  # they take it back
    undo, bottom = redirect_unless_inside(), module.add
    assert (theirs(1), len(seen)) == ((1, 2, 3), 3)
    undo()


def test_nothing_is_kept_of_a_function_that_is_gone(module: ModuleType) -> None:
    from mlspan import _held_functions

    known = len(_held_functions._redirections)
    for _ in range(3):
        exec("def add(one): return one", module.__dict__)  # as who reloads a module does
        redirect(module, "add", [])()
    del module.add
    gc.collect()
    assert len(_held_functions._redirections) == known


def test_twice_and_in_threads(module: ModuleType) -> None:
    """Put in place, taken back and put in place again while other threads call it."""
    function, ended, results = module.checked, threading.Event(), []

    def call() -> None:
        while not ended.is_set():
            results.append(function(1))

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for _ in range(200):
        redirect(module, "checked", [])()
    ended.set()
    for caller in callers:
        caller.join(30)
    assert set(results) <= {(1, 2, 3)}


def test_what_is_no_python_function_is_left_alone(module: ModuleType) -> None:
    module.built_in = len
    redirect_function(module, "built_in", lambda _: max)()
    assert module.built_in is len


class Places:
    """A class whose methods are patched, plain, asynchronous and as generators."""

    def plain(self, one: int) -> int:
        return one

    async def waiting(self, one: int) -> int:
        return one

    def yielding(self, one: int) -> Iterator[int]:
        yield one


def trace(name: str, seen: list[str], label: str) -> Any:
    """Trace a method with an operation that notes the label; return the undo."""

    class Operation:
        def __enter__(self) -> Operation:
            seen.append(label)
            return self

        def __exit__(self, *_: object) -> None: ...

        def record_result(self, result: Any, **_: Any) -> Any:
            return result

    return trace_method(f"{__name__}:Places.{name}", lambda *_: Operation())


def call(method: Any) -> Any:
    result = method(1)
    if inspect.iscoroutine(result):
        return asyncio.run(result)
    return next(iter(result)) if inspect.isgenerator(result) else result


@pytest.mark.parametrize("name", ["plain", "waiting", "yielding"])
def test_a_wrapper_that_is_held_while_it_is_off_and_on_again(name: str) -> None:
    """It is silent while nothing is traced, and records as what is there now does; it stays what it was."""
    seen: list[str] = []
    undo = trace(name, seen, "first")
    held, cls = getattr(Places(), name), getattr(Places, name)
    kinds = [inspect.iscoroutinefunction(held), str(inspect.signature(held)), held.__name__, held.__doc__]
    for label in ("second", "third"):
        undo()
        assert (call(held), seen) == (1, [])
        undo = trace(name, seen, label)
        assert (call(held), call(functools.partial(cls, Places())), seen) == (1, 1, [label] * 2)
        seen.clear()
    assert [inspect.iscoroutinefunction(held), str(inspect.signature(held)), held.__name__, held.__doc__] == kinds
    undo()
    assert (call(held), seen) == (1, [])


def test_two_wrappers_that_are_held() -> None:
    """Of two integrations around one method, each is led to its own, also where only one of them is on again."""
    seen: list[str] = []
    undos = [trace("plain", seen, label) for label in ("inner", "outer")]
    held = Places().plain
    for undo in reversed(undos):
        undo()
    undo_inner = trace("plain", seen, "inner")
    assert (call(held), seen) == (1, ["inner"])
    undo_outer = trace("plain", seen, "outer")
    assert (call(held), seen[1:]) == (1, ["outer", "inner"])
    undo_outer()
    undo_inner()
    assert (call(held), len(seen)) == (1, 3)


def test_a_wrapper_of_others_in_between_is_called_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held from before it or from after it: no call goes round in circles, and theirs runs at most once."""
    seen: list[str] = []
    undo, original = trace("plain", seen, "first"), Places.plain

    def theirs(self: Any, one: int) -> int:
        seen.append("theirs")
        return original(self, one)

    before = Places().plain
    monkeypatch.setattr(Places, "plain", theirs)
    after = Places().plain
    undo()
    undo = trace("plain", seen, "second")
    for held, expected in ((before, []), (after, ["theirs"]), (Places().plain, ["second", "theirs"])):
        seen.clear()
        assert (call(held), seen) == (1, expected)
    undo()


def test_what_fails_half_way_leads_nowhere() -> None:
    """An install that fails after the patch leaves what is held as it was."""
    seen: list[str] = []
    undo = trace("plain", seen, "first")
    held = Places().plain
    undo()
    with pytest.raises(KeyError), Installation().record():
        trace("plain", seen, "second")
        raise KeyError
    assert (call(held), call(Places().plain), seen) == (1, 1, [])
