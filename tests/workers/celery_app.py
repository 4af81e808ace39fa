"""An application of Celery's that says nothing of tracing; its broker is a folder."""

from __future__ import annotations

import os
from pathlib import Path

import tasks
from celery import Celery

folder = Path(os.environ.get("TEST_BROKER", "."))
app = Celery("celery_app", broker="filesystem://", backend=f"file://{folder}/results")
(folder / "results").mkdir(exist_ok=True)
(folder / "messages").mkdir(exist_ok=True)
messages = str(folder / "messages")
app.conf.broker_transport_options = {
    "data_folder_in": messages,
    "data_folder_out": messages,
    "control_folder": str(folder / "control"),
}
ask = app.task(name="ask")(tasks.ask)
