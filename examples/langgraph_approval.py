"""A graph that waits for a person: the run that goes on is linked to the run that waited.

Needs ``pip install '.[mlflow,langgraph]'`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the trace,
and ``mlspan ui`` opens it in MLflow.

Where the program ends before the answer, ``mlspan list --status waiting`` shows what waits.
"""

from __future__ import annotations

from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from mlspan import integrations, tracing

integrations.langgraph.autolog()


class Order(TypedDict, total=False):
    item: str
    approved: bool
    receipt: str


def check(order: Order) -> Order:
    return {"approved": bool(interrupt({"question": f"Buy {order['item']}?"}))}


def buy(order: Order) -> Order:
    return {"receipt": f"bought {order['item']}"}


graph = (
    StateGraph(Order)
    .add_node("check", check)
    .add_node("buy", buy)
    .add_edge(START, "check")
    .add_conditional_edges("check", lambda order: "buy" if order["approved"] else END, ["buy", END])
    .add_edge("buy", END)
    .compile(name="order", checkpointer=InMemorySaver())
)

if __name__ == "__main__":
    thread = {"configurable": {"thread_id": "order-7"}}
    waiting = graph.invoke({"item": "a kettle"}, thread)
    print("asked:", waiting["__interrupt__"][0].value["question"])
    print("done:", graph.invoke(Command(resume=True), thread)["receipt"])
    tracing.flush()
