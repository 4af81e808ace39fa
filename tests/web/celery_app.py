"""An application of Celery's with a span for each attempt of a task; its broker is a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import openai
from celery import Celery

from mlspan import integrations

integrations.openai.autolog()
integrations.workers.celery.autolog(task_spans=True)
folder = Path(os.environ["TEST_BROKER"])
app = Celery("celery_app", broker="filesystem://", backend=f"file://{folder}/results")
for name in ("results", "messages", "control"):
    (folder / name).mkdir(exist_ok=True)
app.conf.broker_transport_options = {
    "data_folder_in": str(folder / "messages"),
    "data_folder_out": str(folder / "messages"),
    "control_folder": str(folder / "control"),
}


@app.task(name="ask")
def ask(text: str) -> str | None:
    messages: Any = [{"role": "user", "content": text}]
    return openai.OpenAI().chat.completions.create(model="gpt-x", messages=messages).choices[0].message.content


@app.task(name="flaky", bind=True, max_retries=2, default_retry_delay=0)
def flaky(self: Any) -> str:
    if self.request.retries < 1:
        raise self.retry(exc=ValueError("not yet"))
    return "at last"


@app.task(name="fails")
def fails() -> None:
    raise ValueError("never")
