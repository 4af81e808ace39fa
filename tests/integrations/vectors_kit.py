"""What the tests of all vector databases share: the same few records, and what each search of them has to say."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from mlspan import tracing
from mlspan.testing import Spans, contracts

VECTORS: Any = [[0.731, 0.25, 0.125], [0.11, 0.873, 0.5]]
TEXTS = ["a bridge over a river", "a tower in the fog"]
NEAR_FIRST: Any = [0.731, 0.26, 0.125]
DIGITS = ("731", "873")  # of the vectors: whoever records them has recorded a vector


def read_attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


def read_documents(span: Any) -> Any:
    return json.loads(read_attributes(span).get("gen_ai.retrieval.documents", "null"))


class VectorCalls(contracts.CallContract):
    """A database with the records above in the collection ``docs``; a test calls :meth:`search` and its kin.

    Attributes:
        system: the value of ``db.system.name``.
        query_text: what a search by text looks for; None where a search has vectors alone.
        first: the id of the first record.
        source: the name of the collection, where the client knows it.
        has_distance: whether a search tells distances.
        writes: by the name of a span, the method of this class that makes the call, and the number of its records.
    """

    span: ClassVar[str] = "retrieval docs"
    texts = (TEXTS[0],)
    system: ClassVar[str]
    source: ClassVar[str | None] = "docs"
    first: ClassVar[str] = "1"
    has_distance: ClassVar[bool] = False
    has_vectors: ClassVar[bool] = True
    writes: ClassVar[dict[str, tuple[str, int | None]]] = {}

    def search(self, **more: Any) -> Any:
        """Search for the two records that are nearest to ``NEAR_FIRST``."""
        raise NotImplementedError

    def search_with_vectors(self) -> Any:
        """Search for records together with their vectors."""
        raise NotImplementedError

    def make_call(self) -> Any:
        return self.search()

    def test_a_search_tells_what_it_has_found(self) -> None:
        """Ids, scores and distances, the text and what is stored beside it, and how many there are."""
        self.search()
        span = self.check_span()
        got = read_attributes(span)
        first, second = read_documents(span)
        assert (first["id"], got["db.system.name"]) == (self.first, self.system)
        assert got.get("gen_ai.data_source.id") == self.source
        assert first["score"] > second["score"]
        assert TEXTS[0] in str(first)
        assert ("distance" in first) == self.has_distance
        assert (got["gen_ai.retrieval.top_k"], got["db.response.returned_rows"]) == (2, 2)
        if self.has_vectors:
            assert (got["mlspan.vectors.count"], got["mlspan.vectors.dimension"]) == (1, 3)

    def test_no_vector_is_recorded(self) -> None:
        """Neither that of the query, nor those that the caller asks for."""
        self.search_with_vectors()
        everything = str(read_attributes(self.check_span()))
        assert [digits for digits in DIGITS if digits in everything] == []

    def test_writes_are_counted(self) -> None:
        """Each is a span that says how many records it was about, and nothing of what they hold."""
        for name, (method, count) in self.writes.items():
            self.spans.clear()
            getattr(self, method)()
            (span,) = self.spans.all
            got = read_attributes(span)
            assert (span.name, got.get("mlspan.records.count")) == (name, count)
            assert (got["db.system.name"], got.get("db.collection.name")) == (self.system, self.source)
            assert not any(text in str(got) for text in (*TEXTS, *DIGITS))

    def test_counts_are_no_content(self) -> None:
        """Without content a search still says how many records it has found."""
        tracing.configure(capture_content=False)
        self.search()
        got = read_attributes(self.check_span())
        assert got["db.response.returned_rows"] == 2
        assert "gen_ai.retrieval.documents" not in got
        tracing.configure()

    def test_redaction(self) -> None:
        """What is found is redacted as all content is."""
        tracing.configure(redact=["bridge"])
        self.search()
        everything = str(read_attributes(self.check_span()))
        assert "bridge" not in everything
        assert "[redacted]" in everything
        tracing.configure()


def only(spans: Spans) -> dict[str, Any]:
    """Return the attributes of the only span."""
    return read_attributes(spans.one())
