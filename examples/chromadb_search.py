"""A search in Chroma, below the agent that asks for it, as one trace.

Needs ``pip install '.[mlflow,chromadb]'`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the trace, and
``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from typing import Any

import chromadb
import numpy as np

from mlspan import integrations, tracing

integrations.chromadb.autolog(log_traces=True)

WORDS = ("bridge", "river", "tower", "fog")
TEXTS = ["A bridge leads over the river.", "The tower stands in the fog.", "Fog hangs over the bridge."]


class CountWords(chromadb.EmbeddingFunction[list[str]]):
    """Vectors that count words, in the place of a model's."""

    def __init__(self) -> None: ...

    def __call__(self, input: list[str]) -> list[Any]:
        return [np.array([text.lower().count(word) for word in WORDS], dtype=np.float32) for text in input]


@tracing.trace(name="assistant", kind="agent")
def answer(question: str, collection: chromadb.Collection) -> str:
    """Return the text that is nearest to the question."""
    found = collection.query(query_texts=[question], n_results=2)
    return (found["documents"] or [["nothing"]])[0][0]


if __name__ == "__main__":
    client = chromadb.EphemeralClient(chromadb.Settings(anonymized_telemetry=False))
    docs = client.create_collection(
        "docs", embedding_function=CountWords(), configuration={"hnsw": {"space": "cosine"}}
    )
    docs.add(ids=["1", "2", "3"], documents=TEXTS)
    with tracing.session("demo"), tracing.user("ada"):
        print(answer("Is there a tower in the fog?", docs))
    tracing.flush()
