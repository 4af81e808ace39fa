"""Functions and methods that train, which a program holds since before, between or after calls of autolog().

They take minutes, and run in the nox session trainings.
"""

from __future__ import annotations

import copy
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final, NamedTuple

import pytest

pytest.importorskip("mlflow", reason="MLflow is in the nox session classic")
np = pytest.importorskip("numpy", reason="NumPy is in the nox session classic")

from test_mlflow_autolog import BOTH, NONE, Bench, X, Y, bench, store  # noqa: F401  # two are fixtures

from mlspan.hooks.patching import resolve_target
from mlspan.integrations._training.hook import TrainingHook
from mlspan.integrations._training.library import TrainingLibrary
from mlspan.testing import Spans

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("default"), pytest.mark.timeout(120)]

SPAN_ALONE: Final = (0, 1)


class Subject(NamedTuple):
    """What trains, how what is held of it is called, and the runs and spans that a call leaves while all is on."""

    target: str
    call: Callable[[Any], object]
    left: tuple[int, int]
    make: Callable[[type], Any] | None = None  # makes the object whose method is held

    @property
    def library(self) -> str:
        return self.target.partition(":")[0].partition(".")[0]

    def hold(self) -> Any:
        """Return what a program holds that looks the function up now."""
        owner, name = resolve_target(self.target)
        return getattr(owner if self.make is None else self.make(owner), name)


def _boost(function: Any, **more: Any) -> object:
    import xgboost

    return function({"nthread": 1}, xgboost.DMatrix(X, Y), 1, **more)


def _boost_lightly(function: Any) -> object:
    import lightgbm

    return function({"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1}, lightgbm.Dataset(X, Y), 1)


def _validate(function: Any) -> object:
    from sklearn.linear_model import LinearRegression

    return function(LinearRegression(), X, Y, cv=2)


def _make_ols(_: type) -> Any:
    import statsmodels.api as sm

    return sm.OLS(Y, X)


SUBJECTS: Final = {
    "train": Subject("xgboost:train", _boost, BOTH),
    "train of another": Subject("lightgbm:train", _boost_lightly, BOTH),
    "without a run": Subject("sklearn.model_selection:cross_val_score", _validate, SPAN_ALONE),
    "method": Subject("sklearn.linear_model:LinearRegression.fit", lambda fit: fit(X, Y), BOTH, lambda cls: cls()),
    "method of a model with data": Subject(
        "statsmodels.regression.linear_model:RegressionModel.fit", lambda fit: fit(), BOTH, _make_ols
    ),
}

WHOLE: Final = (SUBJECTS["train"], SUBJECTS["without a run"])  # in every order

# "hold" looks the function up, "wrap" lets another tracer patch it; after each other step all that is held is called.
ORDERS: Final = {
    "before": "hold ours ours",
    "between": "ours hold ours",
    "after": "ours ours hold ours-off",
    "off-and-on": "ours hold ours-off ours",
    "many": "hold ours hold ours hold ours-off hold ours hold ours-off ours",
    "mlflow-in-between": "ours hold flavor hold ours hold flavor-off flavor",
    "another-tracer": "hold ours hold wrap hold ours hold ours-off ours hold ours",
    "another-tracer-first": "wrap hold ours hold ours hold ours-off ours",
    "another-tracer-while-off": "hold ours hold ours-off wrap hold ours hold ours-off ours",
}


class Holder:
    """All that a program holds of one function, and what happens when each of it is called."""

    def __init__(self, subject: Subject, trained: Bench) -> None:
        self.subject, self.bench = subject, trained
        self.held: list[tuple[str, Any]] = []
        self.calls_of_tracer: list[object] = []

    def hold(self, when: str) -> None:
        """Look the function up and keep it, or a partial of a copy. A method is found in its class while all is off."""
        function = self.subject.hold()
        if self.subject.make is not None and not self.bench.hook.is_installed:
            return
        copied = copy.copy(functools.partial(copy.deepcopy(function) if self.subject.make is None else function))
        self.held.append((when, copied if self.held else function))  # a training takes a while: one of them in turn

    def wrap(self) -> None:
        """Let another tracer put its wrapper around what is there now."""
        owner, name = resolve_target(self.subject.target)
        function = vars(owner)[name]

        @functools.wraps(function)
        def trace(*args: Any, **kwargs: Any) -> object:
            self.calls_of_tracer.append(args)
            return function(*args, **kwargs)

        setattr(owner, name, trace)

    def measure(self, function: Any) -> tuple[int, int]:
        """Return the runs and the spans without parent that one call leaves; the other tracer sees it at most once."""
        runs, roots = len(self.bench.runs()), len(self.roots())
        self.calls_of_tracer.clear()
        assert self.subject.call(function) is not None
        assert len(self.calls_of_tracer) <= 1
        return len(self.bench.runs()) - runs, len(self.roots()) - roots

    def roots(self) -> list[Any]:
        return [span for span in self.bench.spans.all if span.parent is None]

    def check(self, left: tuple[int, int], step: str) -> None:
        found = {when: self.measure(function) for when, function in [*self.held, ("now", self.subject.hold())]}
        assert found == dict.fromkeys(found, left), f"after {step}"


@pytest.fixture(params=list(SUBJECTS))
def subject(request: pytest.FixtureRequest) -> Subject:
    return SUBJECTS[request.param]


@pytest.fixture
def library(subject: Subject) -> str:
    pytest.importorskip(subject.library, reason="in the nox session classic")
    return subject.library


@pytest.fixture
def holder(subject: Subject, bench: Bench) -> Iterator[Holder]:  # noqa: F811
    owner, name = resolve_target(subject.target)
    original = vars(owner)[name]
    yield Holder(subject, bench)
    bench.call("ours-off")
    setattr(owner, name, original)


@pytest.mark.parametrize("order", list(ORDERS.values()), ids=list(ORDERS))
def test_what_is_held_in_every_order(holder: Holder, order: str, subject: Subject) -> None:
    """It is one span, and one run where there are runs, while all is on; nothing of either while it is off."""
    if subject not in WHOLE and order not in {ORDERS["off-and-on"], ORDERS["another-tracer"]}:
        pytest.skip("the mechanism is that of another subject, whose turn it is in every order")
    steps = order.split()
    for number, step in enumerate(steps):
        if step == "hold":
            holder.hold(f"step {number}")
        elif step == "wrap":
            holder.wrap()
        else:
            holder.bench.call(step)
            holder.check(NONE if step.endswith("-off") else holder.subject.left, " ".join(steps[: number + 1]))


def test_exclusive_within_the_callers_run(holder: Holder) -> None:
    """Nothing is recorded of what is held, and no call goes round in circles, with another tracer's wrapper as well."""
    import mlflow

    for step in ("hold", "ours", "hold", "wrap", "hold"):
        holder.hold(step) if step == "hold" else holder.wrap() if step == "wrap" else holder.bench.call(step)
    holder.bench.call("ours", exclusive=True)
    with mlflow.start_run():
        holder.check(NONE, "exclusive, in a run")
    holder.check(holder.subject.left, "exclusive, outside of a run")


@pytest.mark.parametrize("subject", [SUBJECTS["without a run"]])
def test_a_held_function_while_autolog_is_called(holder: Holder) -> None:
    """A thread calls what it holds while another turns autolog on and off: each call returns what it should."""
    holder.bench.call("ours")
    holder.hold("on")
    (_, function), *_ = holder.held
    expected, ended = list(_validate(function)), threading.Event()  # type: ignore[call-overload]
    results: list[list[float]] = []

    def call() -> None:
        while not ended.is_set():
            results.append(list(_validate(function)))  # type: ignore[call-overload]

    caller = threading.Thread(target=call)
    caller.start()
    for word in ("ours", "ours-off", "ours") * 3:
        holder.bench.call(word)
    ended.set()
    caller.join(60)
    assert results
    assert all(result == expected for result in results)
    holder.check(SPAN_ALONE, "all of it")


@pytest.fixture
def made_library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A library of the test's own, with a function that trains and a class with a method that does."""
    made = ModuleType("held_trainings")
    source = (
        "def train(data):\n    return sum(data)\nclass Model:\n    def fit(self, data):\n        return train(data)\n"
    )
    exec(compile(source, "held_trainings.py", "exec"), made.__dict__)
    monkeypatch.setitem(sys.modules, "held_trainings", made)
    return made


@pytest.mark.parametrize("subject", [SUBJECTS["without a run"]])
def test_a_place_that_another_integration_has_taken(made_library: Any, holder: Holder, spans: Spans) -> None:
    """As Keras and TensorFlow do with one class: what is held since the one is recorded by the other, once."""

    def make_hook(name: str) -> TrainingHook:
        library = TrainingLibrary(
            flavor=None,
            find_training_functions=lambda: [(made_library, "train"), (made_library.Model, "fit")],
            read_arguments=lambda record, bound: None,
        )
        return TrainingHook(name, "mlflow>=1", ("held_trainings",), library)

    one, other = make_hook("one"), make_hook("other")
    try:
        one.autolog(silent=True)
        held = [made_library.train, made_library.Model().fit]
        other.autolog(silent=True)
        held += [made_library.train, made_library.Model().fit]
        one.autolog(silent=True)
        for call in held:
            spans.clear()
            assert call([1, 2]) == 3
            assert [span.attributes["mlspan.fit.library"] for span in spans.all if span.parent is None] == ["one"]
        assert len(holder.bench.runs()) == len(held)
    finally:
        one.autolog(disable=True)
        other.autolog(disable=True)
    spans.clear()
    assert [call([1, 2]) for call in held] == [3] * 4
    assert spans.all == []
