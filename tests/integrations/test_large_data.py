"""Large data: a training with autolog neither copies it nor walks over it by us, and keeps none of it."""

from __future__ import annotations

import functools
import gc
import json
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("mlflow", reason="MLflow is in the nox session classic")
np = pytest.importorskip("numpy", reason="NumPy is in the nox session classic")
pytest.importorskip("sklearn", reason="scikit-learn is in the nox session classic")

from test_mlflow_autolog import Bench, bench, store  # noqa: F401  # two are fixtures

from mlspan.integrations._training.record import measure_data, write_params

pytestmark = [pytest.mark.trains, pytest.mark.filterwarnings("default"), pytest.mark.timeout(120)]

ROWS, FEATURES = 100_000, 50
# Bytes that a span, a run and their caches may take; a copy of the smallest data takes 10 times it.
SLACK: Final = 1_500_000
NO_LOGS: Final = {"log_models": False, "log_datasets": False}


def make_memory_map(folder: Path) -> Any:
    data = np.memmap(folder / "data", dtype=np.float32, mode="w+", shape=(ROWS, FEATURES))
    data[:, 0] = 1
    return data


def make_sparse(folder: Path) -> Any:
    scipy = pytest.importorskip("scipy.sparse")
    return scipy.eye(ROWS * 20, FEATURES, format="csr")


def make_categories(folder: Path) -> Any:
    pandas = pytest.importorskip("pandas")
    words = pandas.Categorical.from_codes(np.arange(ROWS) % 3, ["red", "green", "blue"])
    return pandas.DataFrame({"colour": words, **{f"x{n}": np.ones(ROWS) for n in range(FEATURES - 1)}})


def make_polars(folder: Path) -> Any:
    polars = pytest.importorskip("polars")
    return polars.DataFrame({f"x{n}": np.ones(ROWS) for n in range(FEATURES)})


DATA: Final = {
    "array": lambda folder: np.ones((ROWS, FEATURES)),
    "memory-mapped": make_memory_map,
    "sparse": make_sparse,
    "pandas with categories": make_categories,
    "polars": make_polars,
}


def measure_peak(call: Callable[[], object]) -> int:
    """Return the most bytes that were allocated at once in a call beside what was there before; NumPy's count too."""
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def library(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "sklearn")


def _fit(cls: Any, data: list[Any]) -> None:
    cls().fit(*data)


@pytest.mark.parametrize("make", list(DATA.values()), ids=list(DATA))
def test_a_fit_costs_what_it_costs_with_mlflow_alone(
    make: Callable[[Path], Any],
    bench: Bench,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Its memory is that of MLflow's autolog, whatever the data is; afterwards nobody holds the data."""
    from sklearn.dummy import DummyRegressor

    data = make(tmp_path)
    targets = np.ones(data.shape[0])

    fit = functools.partial(_fit, DummyRegressor, [data, targets])
    peaks = []
    for word in ("flavor", "ours"):
        bench.call(word, **NO_LOGS, log_post_training_metrics=False)
        fit()  # what is imported and cached at the first one
        peaks.append(measure_peak(fit))
    alone, with_ours = peaks
    assert with_ours < alone + SLACK
    span = bench.fits()[-1]
    assert (span.attributes["mlspan.fit.rows"], span.attributes["mlspan.fit.features"]) == (data.shape[0], FEATURES)
    if type(data).__module__.startswith("polars"):  # its data frames have no weak references
        return
    held = weakref.ref(data)
    del data, fit
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("library", ["statsmodels"], indirect=True)
@pytest.mark.parametrize("kind", ["array", "pandas"])
def test_the_data_of_a_model_is_logged_without_a_copy(library: str, kind: str, bench: Bench) -> None:  # noqa: F811
    """MLflow logs none for statsmodels, so we do; its digest is the one that MLflow makes of the same array."""
    sm = pytest.importorskip("statsmodels.api")
    from mlflow.data.digest_utils import compute_numpy_digest, compute_pandas_digest

    rows = 400_000
    X: Any = np.arange(rows * 5, dtype=float).reshape(rows, 5) % 7
    expected = compute_numpy_digest(X, np.ones(rows))
    if kind == "pandas":
        X = pytest.importorskip("pandas").DataFrame(X, columns=list("abcde"))
        expected = compute_pandas_digest(X)
    model = sm.OLS(np.ones(rows), X)
    peaks = {}
    for logs in (False, True):
        bench.call("ours", log_models=False, log_datasets=logs)
        model.fit()
        peaks[logs] = measure_peak(model.fit)
    assert peaks[True] < peaks[False] + SLACK
    (logged,) = bench.runs()[0].inputs.dataset_inputs
    assert f'"num_rows": {rows}' in logged.dataset.profile or f'"features_shape": [{rows}, 5]' in logged.dataset.profile
    assert logged.dataset.digest == expected


class Lazy:
    """A data frame that is computed to be counted, such as Dask's."""

    shape = (object(), 3)

    def __len__(self) -> int:
        raise AssertionError("this computes all of the data")


class Endless:
    """A dataset of unknown length, such as TensorFlow's that repeats."""

    def __len__(self) -> int:
        raise TypeError("The dataset length is unknown.")


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (np.ones((4, 2)), (4, 2)),
        (np.ones(4), (4, None)),
        ([[1, 2], [3, 4], [5, 6]], (3, None)),
        (Lazy(), (None, 3)),
        (Endless(), (None, None)),
        ("train.csv", (None, None)),
        (Path("train.csv"), (None, None)),
        ([np.ones((4, 2)), np.ones((4, 2))], (None, None)),
        (
            type("DataFrame", (), {"__module__": "pyspark.pandas.frame", "shape": property(lambda _: 1 / 0)})(),
            (None,) * 2,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_known_without_reading_is_not_said(data: object, size: tuple[int | None, int | None]) -> None:
    assert measure_data(data) == size


def test_a_frame_of_dask_is_not_computed() -> None:
    dask = pytest.importorskip("dask.dataframe")
    pandas = pytest.importorskip("pandas")

    def fail(part: Any) -> Any:
        raise AssertionError("this computes all of the data")

    frame = dask.from_pandas(pandas.DataFrame({"a": [1, 2], "b": [3, 4]}), npartitions=2)
    assert measure_data(frame.map_partitions(fail, meta=frame._meta)) == (None, 2)


LONG: Final = list(range(300_000))


@pytest.mark.parametrize(
    "value",
    [
        LONG,
        tuple(LONG),
        {"groups": LONG, "df": 3},
        [LONG, LONG],
        dict.fromkeys(LONG, 1),
        b"x" * 3_000_000,
        {"a": {"b": (LONG,)}},
    ],
    ids=["list", "tuple", "dict", "lists", "keys", "bytes", "nested"],
)
def test_a_large_parameter_is_read_as_far_as_it_is_kept(value: object) -> None:
    """The text is what ``str`` would give, at the cost of its beginning."""
    expected = str(value)[:500]
    written: list[str] = []
    assert measure_peak(lambda: written.append(write_params({"value": value}))) < 200_000
    assert json.loads(written[0]) == {"value": expected}


def test_an_array_as_a_parameter_is_its_shape() -> None:
    """Also where the program has arrays written in full."""
    with np.printoptions(threshold=10_000_000):
        assert write_params({"init": np.ones((2000, 3))}) == '{"init":"ndarray of shape (2000, 3)"}'
        assert write_params({"init": np.ones(2)}) == '{"init":"[1. 1.]"}'
