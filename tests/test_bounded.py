"""The dict of bounded size."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from threading import Thread

import pytest

import mlspan
from mlspan._bounded import BoundedDict


def test_oldest_entries_go_first() -> None:
    """More entries than fit push out the oldest, and an entry that is assigned again counts as new."""
    known: BoundedDict[int, str] = BoundedDict(32)
    for key in range(32):
        known[key] = "first"
    known[0] = "again"
    known[32] = "first"
    assert known[0] == "again"
    assert (1 in known, 32 in known, len(known) <= 32) == (False, True, True)


def test_bound_of_one_keeps_the_latest() -> None:
    """The smallest bound keeps the entry that was just assigned."""
    known: BoundedDict[str, int] = BoundedDict(1)
    known["a"], known["b"] = 1, 2
    assert known == {"b": 2}


def test_threads_share_one_without_a_lock(request: pytest.FixtureRequest) -> None:
    """Threads that write and remove the same keys raise nothing, and the bound holds."""
    known: BoundedDict[int, int] = BoundedDict(8)
    failures: list[BaseException] = []

    def write_entries(start: int) -> None:
        try:
            for number in range(20_000):
                known[(start + number) % 24] = number
                known.pop(number % 24, None)
        except BaseException as error:  # asserted on below
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    request.addfinalizer(lambda: sys.setswitchinterval(before))
    threads = [Thread(target=write_entries, args=(start,)) for start in (0, 5, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert len(known) <= 8


def test_no_dict_is_bounded_by_hand() -> None:
    """No module drops the oldest entries of a dict itself, or empties it when it has grown too large."""
    package = Path(mlspan.__file__).parent
    by_hand = re.compile(r"popitem\(|\.pop\(next\(iter\(|^del \w[\w.]*\[next\(iter\(|OrderedDict")
    found = [
        f"{file.relative_to(package)}:{node.lineno}"
        for file in package.rglob("*.py")
        if file.name != "_bounded.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, (ast.While, ast.If)) and isinstance(node.test, ast.Compare))
        if "len(" in ast.unparse(node.test)
        for line in node.body
        if by_hand.search(ast.unparse(line)) or re.fullmatch(r"_\w+\.clear\(\)", ast.unparse(line))
    ]
    assert found == []
