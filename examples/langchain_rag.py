"""A retrieval chain: documents are looked up, put into the prompt, and a model answers.

Needs ``pip install '.[mlflow,langchain]' langchain-openai`` in a checkout of mlspan, and OPENAI_API_KEY
(OPENAI_BASE_URL for another server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

from typing import Any

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough
from langchain_openai import ChatOpenAI

from mlspan import integrations, tracing

integrations.langchain.autolog()
integrations.openai.autolog()  # adds the client's own facts to the same spans: response id, cached tokens, ...

SHELF = [
    Document(id="paris", page_content="Paris is hot and sunny in July.", metadata={"score": 0.9}),
    Document(id="oslo", page_content="Oslo is mild in July.", metadata={"score": 0.4}),
]


class Shelf(BaseRetriever):
    """Stands in for a vector store."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [document for document in SHELF if (document.id or "") in query.lower()] or SHELF


def joined(documents: list[Document]) -> str:
    return "\n".join(document.page_content for document in documents)


prompt = ChatPromptTemplate.from_messages([("system", "Answer from these notes:\n{notes}"), ("user", "{question}")])
chain = (
    {"notes": Shelf() | joined, "question": RunnablePassthrough()}
    | prompt
    | ChatOpenAI(model="gpt-4o-mini")
    | StrOutputParser()
)

if __name__ == "__main__":
    print(chain.with_config(run_name="weather notes").invoke("Is Paris hot in July?"))
    tracing.flush()
