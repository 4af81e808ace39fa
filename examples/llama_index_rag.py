"""Questions to a folder of files: they are read, split and embedded, and a model answers from what is found.

Needs ``pip install '.[mlflow,llama-index]' llama-index-llms-openai llama-index-embeddings-openai`` in a checkout of
mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan
ui`` opens it in MLflow.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llama_index.core import Settings, SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

from mlspan import integrations, tracing

integrations.llama_index.autolog()
integrations.openai.autolog(include_usage=True)  # adds the client's own facts to the same spans, and a stream's tokens

SERVER: Any = {"api_base": os.environ["OPENAI_BASE_URL"]} if "OPENAI_BASE_URL" in os.environ else {}
Settings.llm = OpenAI(model="gpt-4o-mini", **SERVER)
Settings.embed_model = OpenAIEmbedding(model="text-embedding-3-small", **SERVER)
NOTES = {
    "paris.txt": "Paris is hot and sunny in July. Many shops are closed in August.",
    "oslo.txt": "Oslo is mild in July, and light until late.",
    "rome.txt": "Rome is at its best in May.",
}


def read(folder: Path) -> VectorStoreIndex:
    for name, text in NOTES.items():
        (folder / name).write_text(text)
    return VectorStoreIndex.from_documents(SimpleDirectoryReader(str(folder)).load_data())


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        index = read(Path(folder))
    print(index.as_query_engine(similarity_top_k=2).query("Is Paris hot in July?"))
    memory = ChatMemoryBuffer.from_defaults(chat_store_key="chat-42")  # becomes the session in MLflow
    engine = index.as_chat_engine(chat_mode="context", memory=memory)
    for piece in engine.stream_chat("And what of Paris in July?").response_gen:
        print(piece, end="")
    print()
    tracing.flush()
