"""Make the pictures of the docs: run the examples against real servers, and photograph MLflow's viewer.

    python docs/screenshots.py [EXAMPLE ...]

Needs Chromium and ``tests/servers/install``. The pictures go to ``docs/images``.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from mlflow import MlflowClient
from PIL import Image
from playwright.sync_api import sync_playwright
from servers.process import Process, free_port

# Example -> the span to open, as it is named in the tree.
SHOTS = {
    "openai_chat": "chat gpt-4o-mini",
    "openai_agents": "execute_tool get_weather",
    "langchain_agent": "chat gpt-4o-mini",
    "langchain_rag": "retrieval Shelf",
    "langgraph_approval": "check",
    "llama_rag": "retrieval",
    "autogen_team": "chat gpt-4o-mini",
    "ag2_chat": "chat gpt-4o-mini",
}


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, port, api = Path(name), free_port(), free_port()
        llmock = ROOT / "tests/servers/node_modules/.bin/llmock"
        model = Process(
            [str(llmock), "-p", str(api), "-f", str(ROOT / "tests/servers/fixtures")], api, folder / "model.log"
        )
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        command += ["--port", str(port), "--workers", "1", "--default-artifact-root", str(folder)]
        server = Process(command, port, folder / "server.log", cwd=folder)
        try:
            model.wait()
            server.wait(300)
            uri = f"http://127.0.0.1:{port}"
            for example in wanted:
                take(example, uri, f"http://127.0.0.1:{api}/v1")
        finally:
            server.stop()
            model.stop()


def take(example: str, uri: str, api: str) -> None:
    client = MlflowClient(uri)
    experiment = client.create_experiment(example)
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_ID": experiment}
    env |= {"OPENAI_BASE_URL": api, "OPENAI_API_KEY": "none"}
    subprocess.run([sys.executable, str(ROOT / f"examples/{example}.py")], env=env, check=True)
    trace = client.search_traces(locations=[experiment], order_by=["timestamp_ms ASC"], max_results=5)[0]
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1180, "height": 700}, color_scheme="light")
        page.set_default_timeout(60_000)
        page.goto(f"{uri}/#/experiments/{experiment}/traces?selectedEvaluationId={trace.info.trace_id}")
        span = page.get_by_text(SHOTS[example]).first
        span.wait_for()
        span.click()
        page.wait_for_timeout(2500)
        save(page.screenshot(), ROOT / f"docs/images/{example}.png")
        chromium.close()


def save(taken: bytes, path: Path) -> None:
    """As few bytes as a picture of text needs."""
    picture: Any = Image.open(io.BytesIO(taken)).convert("RGB")
    picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:] or [name for name in SHOTS if (ROOT / f"examples/{name}.py").exists()])
