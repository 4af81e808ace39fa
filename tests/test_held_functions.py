"""Functions that are called by who has imported them before they were patched."""

from __future__ import annotations

import functools
import inspect
import pickle
import threading
import warnings
from types import ModuleType
from typing import Any

import pytest

from mlspan.hooks.held_functions import redirect_function

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

    undo = redirect_function(module, name, lambda args: None if args[:1] == ("inside",) else wrapper)
    bottom = getattr(module, name)
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
    undo = redirect(module, "checked", [])
    with pytest.raises(ValueError, match="9"):
        module.checked(9)
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
