"""MLflow's own autolog beside ours: in every order, a training is one run and one span, and off is off."""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

pytest.importorskip("mlflow", reason="MLflow is in the nox session classic")
np = pytest.importorskip("numpy", reason="NumPy is in the nox session classic")

from mlspan import integrations
from mlspan.testing import Spans

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("default"), pytest.mark.timeout(120)]

X: Final = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.3], [0.1, 0.8], [0.8, 0.1]])
Y: Final = np.array([0, 1, 0, 1, 0, 1])


def train_sklearn() -> None:
    from sklearn.linear_model import LinearRegression

    LinearRegression().fit(X, Y)  # of a classifier MLflow draws pictures, which takes a second


def train_xgboost() -> None:
    import xgboost

    xgboost.train({"nthread": 1}, xgboost.DMatrix(X, Y), 1)


def train_lightgbm() -> None:
    import lightgbm

    lightgbm.train({"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1}, lightgbm.Dataset(X, Y), 1)


def train_statsmodels() -> None:
    import statsmodels.api as sm

    sm.OLS(Y, X).fit()


TRAIN: Final[Mapping[str, Callable[[], None]]] = {
    "sklearn": train_sklearn,
    "xgboost": train_xgboost,
    "lightgbm": train_lightgbm,
    "statsmodels": train_statsmodels,
}
QUICK: Final = {"log_models": False}


class Bench:
    """Calls by the words of a case, and what the trainings between them have left."""

    def __init__(self, library: str, spans: Spans) -> None:
        import mlflow

        self.library, self.spans = library, spans
        made = mlflow.create_experiment(f"beside-{library}-{uuid.uuid4().hex[:8]}")
        self.experiment = mlflow.set_experiment(experiment_id=made)

    @property
    def hook(self) -> Any:
        return getattr(integrations, self.library).HOOK

    def call(self, word: str, **options: Any) -> None:
        """``mlflow``, ``flavor``, ``ours`` or ``all``; with ``-off`` behind it, that one turned off."""
        import mlflow

        who, _, off = word.partition("-")
        flavor = importlib.import_module(f"mlflow.{self.library}")
        autolog = {
            "mlflow": mlflow.autolog,
            "flavor": flavor.autolog,
            "ours": getattr(integrations, self.library).autolog,
            "all": integrations.autolog,
        }[who]
        autolog(**({"disable": True} if off else {**QUICK, **options}))

    def train(self) -> tuple[int, int]:
        """The number of runs and of spans that one training leaves."""
        before = len(self.runs()), len(self.fits())
        TRAIN[self.library]()
        return len(self.runs()) - before[0], len(self.fits()) - before[1]

    def runs(self) -> list[Any]:
        import mlflow

        return list(mlflow.MlflowClient().search_runs([self.experiment.experiment_id]))

    def fits(self) -> list[Any]:
        return [span for span in self.spans.all if span.name.startswith("fit ")]


@pytest.fixture(scope="session")
def store(_template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a database: the quickest place to log to."""
    folder = tmp_path_factory.mktemp("beside")
    shutil.copy(_template_store, folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(params=list(TRAIN))
def library(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param, reason="in the nox session classic")
    return str(request.param)


@pytest.fixture
def bench(library: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spans: Spans) -> Iterator[Bench]:
    """Everything off, MLflow as it is before anybody's first call; so again afterwards."""
    import mlflow
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

    def reset() -> None:
        integrations.autolog(disable=True)
        mlflow.autolog(disable=True)
        for asked in AUTOLOGGING_INTEGRATIONS.values():
            asked.clear()

    monkeypatch.setenv("MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT", "1")
    mlflow.set_tracking_uri(store)
    monkeypatch.chdir(tmp_path)
    reset()
    yield Bench(library, spans)
    reset()
    mlflow.set_tracking_uri(None)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)


# Each step is a call, and what one training leaves after it: runs and spans. "way" is either of MLflow's two functions.
BOTH, NONE, MLFLOW_ALONE = (1, 1), (0, 0), (1, 0)
ORDERS: Final = {
    "mlflow-first": [("way", MLFLOW_ALONE), ("ours", BOTH)],
    "mlflow-first-unused": [("way", None), ("ours", BOTH)],
    "ours-first": [("ours", BOTH), ("way", BOTH)],
    "interleaved": [("way", None), ("ours", BOTH), ("way", BOTH), ("ours", BOTH), ("way", BOTH), ("way", BOTH)],
    "off-and-on": [("ours", BOTH), ("way-off", NONE), ("way", BOTH), ("way-off", NONE), ("ours", BOTH)],
    "both-off-and-on": [("way", None), ("ours", None), ("way", None), ("way-off", NONE), ("way", BOTH)],
    "off-first": [("way-off", None), ("ours", BOTH)],
    "off-twice": [("ours", None), ("way-off", None), ("way-off", NONE), ("way", None), ("way", BOTH)],
    "ours-off": [("way", None), ("ours", BOTH), ("ours-off", NONE), ("way", MLFLOW_ALONE), ("way-off", NONE)],
    "by-name": [("ours", None), ("mlflow", None), ("flavor-off", NONE), ("flavor", BOTH), ("way-off", NONE)],
    "all": [("way", None), ("all", BOTH), ("way-off", NONE), ("all", BOTH), ("way", BOTH)],
}


@pytest.mark.parametrize("way", ["mlflow", "flavor"])
@pytest.mark.parametrize("steps", list(ORDERS.values()), ids=list(ORDERS))
def test_in_every_order(bench: Bench, way: str, steps: list[tuple[str, tuple[int, int] | None]]) -> None:
    """One run and one span for each training while both are on, none of either when it was last turned off."""
    for number, (word, left) in enumerate(steps):
        bench.call(word.replace("way", way))
        if left is not None:
            assert bench.train() == left, f"after step {number}, {word}"
            on = left == BOTH
            assert bench.hook.is_installed is on


@pytest.mark.parametrize(
    "calls",
    [
        ("ours", "flavor", "mlflow-off"),
        ("flavor", "ours", "mlflow-off"),
        ("mlflow", "ours", "flavor-off"),
        ("ours", "mlflow", "flavor", "mlflow-off"),
        ("flavor", "mlflow", "ours", "flavor-off"),
    ],
    ids="+".join,
)
def test_off_is_off_whoever_says_it(bench: Bench, calls: tuple[str, ...]) -> None:
    """The last call turns it off, also the one that MLflow itself would not heed; ours turns it on again."""
    for word in calls:
        bench.call(word)
    assert bench.train() == NONE
    bench.call("ours")
    assert bench.train() == BOTH


def test_the_originals_are_back(bench: Bench) -> None:
    """After all calls, the library's functions are those that were there before, and MLflow's are not ours."""
    import mlflow
    from mlflow.utils import autologging_utils, gorilla

    def now() -> list[Any]:
        patch_points = list(bench.hook.library.find_training_functions())
        return [vars(owner).get(name) for owner, name in patch_points] + [
            autologging_utils.revert_patches,
            gorilla.apply,
        ]

    before = now()
    for word in ("flavor", "ours", "mlflow", "flavor", "mlflow-off", "mlflow", "ours", "flavor"):
        bench.call(word)
    assert now() != before
    bench.call("ours-off")
    assert [a for a, b in zip(now(), before, strict=True) if a is not b] == []
    assert mlflow.utils.autologging_utils.revert_patches is before[-2]


def test_a_run_of_the_spans_own(bench: Bench) -> None:
    """The span belongs to the run that MLflow starts, and says what MLflow has logged, in either order."""
    for word in ("flavor", "ours", "mlflow", "flavor"):
        bench.call(word)
    assert bench.train() == BOTH
    (run,), (span,) = bench.runs(), bench.fits()
    assert span.attributes["mlspan.run.id"] == run.info.run_id
    assert json.loads(span.attributes["mlspan.fit.params"])
    metrics = json.loads(span.attributes.get("mlspan.fit.metrics", "{}"))
    assert metrics == {name: pytest.approx(value) for name, value in run.data.metrics.items()}


class TestWhatWins:
    """The settings of the later call."""

    orders: ClassVar = [("mlflow", "ours"), ("flavor", "ours"), ("ours", "mlflow"), ("ours", "flavor")]

    @pytest.fixture(params=["sklearn", "statsmodels"])
    def library(self, request: pytest.FixtureRequest) -> str:
        pytest.importorskip(request.param, reason="in the nox session classic")
        return str(request.param)

    @staticmethod
    def models(bench: Bench) -> int:
        """How many models each training has logged."""
        TRAIN[bench.library]()
        return len(bench.runs()[0].outputs.model_outputs)

    @pytest.mark.parametrize("order", orders, ids="+".join)
    def test_the_later_call_says_what_is_logged(self, bench: Bench, order: tuple[str, str]) -> None:
        """``log_models`` as the later call has it, and never a model twice."""
        first, second = order
        bench.call(first, log_models=True)
        bench.call(second, log_models=False)
        assert self.models(bench) == 0
        bench.call(f"{second}-off")
        bench.call(first, log_models=False)
        bench.call(second, log_models=True)
        assert self.models(bench) == 1

    @pytest.mark.parametrize("word", ["mlflow", "flavor"])
    @pytest.mark.parametrize("ours", ["ours", "all"])
    def test_what_ours_does_not_name_stays(self, bench: Bench, word: str, ours: str) -> None:
        """Turned on after MLflow's without a word on models, ours logs none where MLflow was told not to."""
        import mlflow

        bench.call(word, log_models=False, extra_tags={"team": "blue"})
        autolog = integrations.autolog if ours == "all" else bench.hook.autolog
        autolog(log_datasets=False)
        assert self.models(bench) == 0
        (run,) = bench.runs()
        assert (run.data.tags["team"], run.inputs.dataset_inputs, len(bench.fits())) == ("blue", [], 1)
        assert mlflow.active_run() is None

    @pytest.mark.parametrize("word", ["mlflow", "flavor"])
    def test_exclusive_and_silent_are_heard(
        self, bench: Bench, word: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """``exclusive=True, silent=True`` of MLflow's: no word, and neither log nor span within the caller's run."""
        import mlflow

        bench.call("ours")
        capfd.readouterr()
        with caplog.at_level(logging.INFO, "mlspan"):
            bench.call(word, exclusive=True, silent=True)
            assert bench.train() == BOTH
        said = [line for line in capfd.readouterr().err.splitlines() if "mlflow" in line.lower() or "mlspan" in line]
        assert ([record for record in caplog.records if record.name == "mlspan"], said) == ([], [])
        with mlflow.start_run():
            TRAIN[bench.library]()
        assert (len(bench.fits()), bench.runs()[0].data.params) == (1, {})
        bench.call(word)  # and no longer
        with mlflow.start_run():
            TRAIN[bench.library]()
        assert len(bench.fits()) == 2
        assert bench.runs()[0].data.params

    def test_what_mlflow_was_told_by_name_stays(self, bench: Bench) -> None:
        """``mlflow.autolog()`` changes nothing of what ``mlflow.<library>.autolog()`` was told: MLflow's rule."""
        for word, asked in (("ours", True), ("flavor", False), ("mlflow", True)):
            bench.call(word, log_models=asked)
        assert self.models(bench) == 0

    def test_flavors_that_are_excluded_stay(self, bench: Bench) -> None:
        """``exclude_flavors`` of ``mlflow.autolog`` applies as well."""
        import mlflow

        bench.call("ours")
        mlflow.autolog(disable=True, exclude_flavors=[bench.library])
        assert bench.train() == BOTH

    def test_no_traces_of_mlflows(self, bench: Bench) -> None:
        """``mlflow.autolog(log_traces=False)``: the run alone; on again, unless ours was told to trace nothing."""
        bench.call("ours")
        bench.call("mlflow", log_traces=False)
        assert bench.train() == MLFLOW_ALONE
        bench.call("mlflow")
        assert bench.train() == BOTH
        bench.call("ours", log_traces=False)
        bench.call("mlflow")
        assert bench.train() == MLFLOW_ALONE


only_sklearn = pytest.mark.parametrize("library", ["sklearn"], indirect=True)


@only_sklearn
@pytest.mark.parametrize("gone", ["revert_patches", "apply", "AUTOLOGGING_INTEGRATIONS"])
def test_an_mlflow_without_the_names(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, gone: str
) -> None:
    """Where MLflow lacks what we follow it by, one line says so, and MLflow first, ours after works all the same."""
    from mlspan.integrations._training import mlflow_autolog

    monkeypatch.setitem(mlflow_autolog.NAMES, gone, (mlflow_autolog.NAMES[gone][0], "no_longer_there"))
    monkeypatch.setattr("mlspan._guard._logged_lines", {})
    bench.call("flavor")
    bench.call("ours")
    assert bench.train() == BOTH
    (line,) = [record.message for record in caplog.records if record.name == "mlspan"]
    assert line.startswith("mlspan: this version of MLflow does not let mlspan follow its autolog")


@only_sklearn
def test_a_hook_that_somebody_took_away(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What was put in the place of our layers is noticed: the hook says so, and the next call puts them back."""
    from sklearn.linear_model import LogisticRegression

    from mlspan.cli import libraries

    bench.call("ours")
    theirs = bench.hook.library
    for owner, name in list(theirs.find_training_functions()):
        if vars(owner).get(name) is not None and callable(vars(owner)[name]):
            original = vars(owner)[name]
            while hasattr(original, "__wrapped__"):
                original = original.__wrapped__
            setattr(owner, name, original)
    assert (bench.hook.is_installed, bench.hook.state) == (False, "replaced by something else")
    library = libraries.LibraryStatus(
        "sklearn", "scikit-learn", "1.9", ">=1.6", True, "sklearn", None, bench.hook.state
    )
    assert list(libraries.report_unhooked([library])) == [
        "autolog does not hook into sklearn: replaced by something else"
    ]
    bench.call("ours")
    assert bench.train() == BOTH
    assert LogisticRegression.fit.__name__ == "fit"


# Before a library, or MLflow, is imported at all: each case in a process of its own, which imports the libraries last.
EARLY_LIBRARIES: Final = ["sklearn", "xgboost"]
PROGRAM: Final = """
import json, sys
sys.path.insert(0, {here!r})
{lines}
from test_mlflow_autolog import TRAIN
from mlspan import testing
import mlflow
left = {{}}
for library in {libraries!r}:
    mlflow.set_experiment({name!r} + library)
    with testing.spans() as spans:
        TRAIN[library]()
    runs = mlflow.search_runs(output_format="list")
    left[library] = [len(runs), sum(s.name.startswith("fit ") for s in spans.all)]
print(json.dumps(left))
"""
MLFLOW_FIRST = "import mlflow; mlflow.autolog(log_models=False)"
OURS = "from mlspan import integrations; integrations.autolog(log_models=False)"
EARLY: Final = {
    "mlflow+ours": ([MLFLOW_FIRST, OURS], BOTH),
    "ours+mlflow": ([OURS, MLFLOW_FIRST], BOTH),
    "ours+off": ([OURS, "import mlflow; mlflow.autolog(disable=True)"], NONE),
    "off+ours": (["import mlflow; mlflow.autolog(disable=True)", OURS], BOTH),
    "ours+off+on": ([OURS, "import mlflow; mlflow.autolog(disable=True)", MLFLOW_FIRST], BOTH),
}


@pytest.mark.parametrize("case", list(EARLY))
def test_before_the_import(case: str, store: str) -> None:
    """The calls come first, in either order, and the libraries are imported after them."""
    for library in EARLY_LIBRARIES:
        pytest.importorskip(library, reason="in the nox session classic")
    lines, left = EARLY[case]
    name, here = f"early-{uuid.uuid4().hex[:8]}", str(Path(__file__).parent)
    program = PROGRAM.format(here=here, lines="\n".join(lines), name=name, libraries=EARLY_LIBRARIES)
    env = {**os.environ, "MLFLOW_TRACKING_URI": store, "MLSPAN_STRICT": "1"}
    env.pop("MLFLOW_EXPERIMENT_ID", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {name: list(left) for name in EARLY_LIBRARIES}, done.stderr
    assert "mlspan:" not in done.stderr
