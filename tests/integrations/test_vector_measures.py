"""What is counted and left out of requests and documents, whatever the database; no library of one is needed."""

from __future__ import annotations

import array
import dataclasses
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from mlspan.integrations._vectors.documents import make_document
from mlspan.integrations._vectors.measures import Vectors, count_items, measure_first

FLOATS = [0.731, 0.25, 0.125]
ONE, TWO = "[vector of 3 numbers]", "[2 vectors of 3 numbers]"


@dataclasses.dataclass
class Knn:
    query: Any
    limit: int | None = None


@pytest.mark.parametrize(
    ("value", "plain", "count"),
    [
        (FLOATS, ONE, 1),
        (tuple(FLOATS), ONE, 1),
        ([FLOATS, FLOATS], TWO, 2),
        ([FLOATS, 1], [ONE, 1], 1),
        (["a", FLOATS], ["a", ONE], 1),
        (np.array(FLOATS, dtype=np.float32), ONE, 1),
        (np.array([FLOATS, FLOATS]), TWO, 2),
        ([np.array(FLOATS), np.array(FLOATS)], [ONE, ONE], 2),
        ([np.float32(one) for one in FLOATS], ONE, 1),
        ({"dense": FLOATS, "text": "a"}, {"dense": ONE, "text": "a"}, 1),
        (Knn(FLOATS), {"query": ONE}, 1),
        ({"bool": {"must": [{"knn": {"v": {"vector": FLOATS, "k": 2}}}]}}, None, 1),
        (array.array("f", FLOATS), ONE, 1),
        ({"indices": [3, 1, 4], "values": FLOATS}, ONE, 1),
        ({3: 0.731, 1: 0.25, 4: 0.125}, ONE, 1),
        ({"page": np.int64(7), "weight": np.float32(0.5)}, {"page": 7, "weight": 0.5}, 0),
        (list(range(64)), "[vector of 64 numbers]", 1),
        (b"\x00\x01", "[2 bytes]", 1),
        # What is no vector stays as it is.
        ("a text", "a text", 0),
        (None, None, 0),
        ([], [], 0),
        ([1, 2, 3], [1, 2, 3], 0),
        ([True, False], [True, False], 0),
        ([0.5], [0.5], 0),
        (["a", "b"], ["a", "b"], 0),
    ],
)
def test_vectors_are_counted_and_left_out(value: Any, plain: Any, count: int) -> None:
    vectors = Vectors()
    left = vectors.leave_out(value)
    assert vectors.count == count
    assert "731" not in str(left)
    assert plain is None or left == plain


def test_a_list_as_long_as_a_vector_is_one() -> None:
    """A vector of whole numbers that a document holds is known by the dimension of the query."""
    assert Vectors(3).leave_out({"v": [1, 0, 0], "tags": [1, 2]}) == {"v": ONE, "tags": [1, 2]}


def test_what_contains_itself_ends() -> None:
    endless: list[Any] = ["a"]
    endless.append(endless)
    deep: dict[str, Any] = {"in": FLOATS}
    for _ in range(50):
        deep = {"in": deep}
    assert "nested too deeply" in str(Vectors().leave_out(endless))
    assert "731" not in str(Vectors().leave_out(deep))


@pytest.mark.parametrize(
    ("records", "count"),
    [
        ("id", 1),
        ({"id": 1}, 1),
        (["a", "b"], 2),
        ((), 0),
        (np.zeros((4, 3)), 4),
        (Knn(FLOATS), 1),
        (7, 1),
        (None, None),
        (iter("ab"), None),
        ((one for one in "ab"), None),
    ],
)
def test_records_are_counted_and_not_read(records: Any, count: int | None) -> None:
    """An iterator has no length, and is left to the library."""
    assert count_items(records) == count


def test_an_iterator_keeps_its_records() -> None:
    records = iter("ab")
    count_items(records)
    measure_first(records)
    assert list(records) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (FLOATS, 3),
        ([FLOATS], 3),
        (np.zeros((4, 5)), 5),
        ([{"id": 1, "vector": FLOATS}], 3),
        ([{"id": 1, "values": np.array(FLOATS)}], 3),
        ([{"id": 1, "text": "a"}], None),
        ([], None),
        (None, None),
        ("a", None),
    ],
)
def test_the_dimension_of_what_is_written(value: Any, size: int | None) -> None:
    assert measure_first(value) == size


def test_odd_scores() -> None:
    """The conventions demand a number, and JSON has none for what is not one."""
    assert make_document(None) == {"id": "", "score": 0.0}
    assert make_document(7, score=float("nan")) == {"id": "7", "score": 0.0}
    assert make_document("a", distance=float("inf")) == {"id": "a", "score": 0.0}
    assert make_document("a", score=np.float32(0.5), distance=np.float64(0.25)) == {
        "id": "a",
        "score": 0.5,
        "distance": 0.25,
    }
    assert make_document("a", distance=0.25)["score"] == 0.75
    assert make_document("a", score=True, metadata={}) == {"id": "a", "score": 0.0}


def test_the_text_among_what_is_stored() -> None:
    """It becomes the content, unless there is one."""
    stored = {"text": "a bridge", "page": 7}
    assert make_document(1, metadata=stored)["content"] == "a bridge"
    assert make_document(1, metadata=stored)["metadata"] == {"page": 7}
    assert make_document(1, content="x", metadata=stored)["metadata"] == stored
    assert make_document(1, metadata={"text": 5})["metadata"] == {"text": 5}
