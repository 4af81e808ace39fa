"""A search in Chroma, below the agent that asks for it, as one trace: run it, then look at it in ``mlflow ui``."""

from __future__ import annotations

import chromadb

from mlspan import integrations, tracing

integrations.chromadb.autolog(log_traces=True)

WORDS = ("bridge", "river", "tower", "fog")
TEXTS = ["A bridge leads over the river.", "The tower stands in the fog.", "Fog hangs over the bridge."]


def embed(text: str) -> list[float]:
    """Return a vector that counts words, in the place of a model's."""
    return [float(text.lower().count(word)) for word in WORDS]


@tracing.trace(name="assistant", kind="agent")
def answer(question: str, collection: chromadb.Collection) -> str:
    """Return the text that is nearest to the question."""
    found = collection.query(query_embeddings=[embed(question)], n_results=2)
    return (found["documents"] or [["nothing"]])[0][0]


if __name__ == "__main__":
    client = chromadb.EphemeralClient(chromadb.Settings(anonymized_telemetry=False))
    docs = client.create_collection("docs", embedding_function=None)
    docs.add(ids=["1", "2", "3"], embeddings=[embed(text) for text in TEXTS], documents=TEXTS)
    with tracing.session("demo"), tracing.user("ada"):
        print(answer("Is there a tower?", docs))
    tracing.flush()
