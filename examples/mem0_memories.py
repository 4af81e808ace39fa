"""Memories of Mem0 over a local Qdrant: what is added and found, with the calls to models and the database below.

Needs ``pip install '.[mlflow,mem0]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another
server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from mem0 import Memory
from qdrant_client import QdrantClient

from mlspan import integrations, tracing

integrations.mem0.autolog()
integrations.openai.autolog()
integrations.qdrant_client.autolog()

database = {"provider": "qdrant", "config": {"client": QdrantClient(":memory:"), "collection_name": "facts"}}
memory = Memory.from_config({"vector_store": database})
with tracing.session("a conversation"), tracing.span("remember"):
    memory.add("I like green tea", user_id="ada", infer=False)
    print(memory.search("What does Ada drink?", filters={"user_id": "ada"}))
memory.close()
