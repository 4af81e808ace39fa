"""Make the pictures of the docs: run the examples against real servers, and photograph MLflow's viewer.

    python docs/screenshots.py [EXAMPLE ... | commands | notebook | phoenix]

Needs Chromium, ``tests/servers/install`` and, for what the main environment has not, nox's environments. The pictures
go to ``docs/images``.
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
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text
from servers.endpoints import list_endpoints
from servers.process import Process, free_port
from servers.scripted import Scripted

# Example -> the span to open, as it is named in the tree.
SHOTS = {
    "openai_chat": "chat gpt-4o-mini",
    "anthropic_chat": "chat claude",
    "google_genai_chat": "generate_content",
    "bedrock_chat": "chat anthropic",
    "litellm_router": "route first",
    "together_chat": "chat meta-llama",
    "chromadb_search": "retrieval",
    "mcp_weather": "tools/call",
    "claude_agent_sdk_tool": "execute_tool",
    "pydantic_ai_agent": "get_weather",
    "openai_agents": "execute_tool get_weather",
    "langchain_rag": "retrieval Shelf",
    "langgraph_approval": "check",
    "llama_index_rag": "retrieval",
    "autogen_team": "execute_tool",
    "ag2_chat": "execute_tool",
    "crewai_trip": "execute_tool",
    "dspy_weather": "invoke_workflow Greeter",
    "haystack_rag": "retrieval",
    "smolagents_tool": "execute_tool get_weather",
    "agno_agent": "execute_tool",
    "instructor_city": "create City",
    "browser_use_weather": "execute_tool extract",
    "deepagents_report": "execute_tool task",
    "sklearn_search": "fit GridSearchCV",
    "xgboost_classifier": "fit XGBClassifier",
}
NOX = {  # example -> the session in whose environment it runs
    "google_genai_chat": "google_genai-newest",
    "bedrock_chat": "bedrock-newest",
    "litellm_router": "litellm-newest",
    "together_chat": "clients",
    "chromadb_search": "vectors-newest",
    "claude_agent_sdk_tool": "claude_agent_sdk",
    "pydantic_ai_agent": "frameworks-pydantic_ai",
    "llama_index_rag": "llama_index-newest",
    "autogen_team": "autogen-newest",
    "ag2_chat": "ag2-0-x",
    "crewai_trip": "crewai-newest",
    "dspy_weather": "dspy-newest",
    "haystack_rag": "haystack-newest",
    "smolagents_tool": "smolagents-newest",
    "agno_agent": "agno-newest",
    "instructor_city": "instructor-newest",
    "browser_use_weather": "browser_use-newest",
    "deepagents_report": "deepagents-newest",
    "sklearn_search": "classic",
    "xgboost_classifier": "classic",
}
TALL = {"sklearn_search": 1110, "xgboost_classifier": 760}  # pixels, where inputs leave no room for outputs

QUIET = {  # libraries that would send something of their own; Chromium without a sandbox, as root needs it
    "ANONYMIZED_TELEMETRY": "false",
    "BROWSER_USE_CLOUD_SYNC": "false",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TESTING": "true",
    "IN_DOCKER": "true",
}

TERMINAL = (
    '<meta charset="utf-8"><body style="margin: 0; padding: 16px; width: max-content; background: {background}; '
    'color: {foreground}"><pre style="margin: 0; font: 14px/17px \'DejaVu Sans Mono\', monospace">{code}</pre>'
)


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
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
                if example == "commands":
                    commands(chromium, folder, uri)
                elif example == "notebook":
                    notebook(chromium, folder, uri)
                elif example == "phoenix":
                    phoenix(chromium, folder)
                else:
                    viewer(chromium, example, uri, f"http://127.0.0.1:{api}/v1")
        finally:
            server.stop()
            model.stop()
            chromium.close()


def viewer(chromium: Any, example: str, uri: str, api: str) -> None:
    """Run an example, and photograph its newest trace that has the span to open."""
    client = MlflowClient(uri)
    experiment = client.create_experiment(f"{example}-{free_port()}")
    env = {**os.environ, **QUIET, "MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_ID": experiment}
    scripted = Scripted()
    env |= list_endpoints(api, scripted)
    python = ROOT / ".nox" / NOX[example] / "bin/python" if example in NOX else sys.executable
    try:
        subprocess.run([str(python), str(ROOT / f"examples/{example}.py")], env=env, check=True)
    finally:
        scripted.stop()
    traces = client.search_traces(locations=[experiment])
    trace = next(one for one in traces if any(SHOTS[example] in span.name for span in one.data.spans))
    height = TALL.get(example, 620)
    page = chromium.new_page(viewport={"width": 1400, "height": max(900, height)})
    page.set_default_timeout(300_000)
    page.goto(f"{uri}/#/experiments/{experiment}/traces?selectedEvaluationId={trace.info.trace_id}")
    page.get_by_text(SHOTS[example]).first.click(position={"x": 5, "y": 5})  # a long name reaches below a handle
    page.wait_for_timeout(2500)
    save(page.screenshot(clip={"x": 0, "y": 0, "width": 980, "height": height}), ROOT / f"docs/images/{example}.png")
    page.close()


def commands(chromium: Any, folder: Path, uri: str) -> None:
    """``mlspan show``, ``stats`` and ``show --html`` of a demo."""
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "COLUMNS": "100", "FORCE_COLOR": "1", "MLSPAN_EXPERIMENT": "demo"}
    mlspan = [sys.executable, "-m", "mlspan.cli"]
    for _ in range(3):
        subprocess.run([*mlspan, "demo"], env=env, check=True, capture_output=True)
    for name in ("show", "stats"):
        said = subprocess.run([*mlspan, name], env=env, check=True, capture_output=True, text=True).stdout
        console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(f"$ mlspan {name}\n" + said), soft_wrap=True)
        (folder / "page.html").write_text(
            console.export_html(theme=SVG_EXPORT_THEME, inline_styles=True, code_format=TERMINAL)
        )
        page = chromium.new_page(viewport={"width": 900, "height": 100})
        page.goto(f"file://{folder}/page.html")
        save(page.locator("body").screenshot(), ROOT / f"docs/images/{name}.png")
        page.close()
    subprocess.run([*mlspan, "show", "--html", f"{folder}/page.html"], env=env, check=True, capture_output=True)
    page = chromium.new_page(viewport={"width": 980, "height": 560}, color_scheme="light")
    page.goto(f"file://{folder}/page.html")
    page.locator("summary").nth(1).click()
    save(page.screenshot(), ROOT / "docs/images/page.png")
    page.close()


CELLS = [  # of a notebook; the picture is of what is below the last
    "%load_ext mlspan",
    "from sklearn.datasets import load_iris; X, y = load_iris(return_X_y=True, as_frame=True)",
    "from sklearn.linear_model import LogisticRegression; from sklearn.model_selection import GridSearchCV",
    "search = GridSearchCV(LogisticRegression(max_iter=200), {'C': [0.1, 1.0]}, cv=2).fit(X, y)",
]


def notebook(chromium: Any, folder: Path, uri: str) -> None:
    """Run a search in a cell, and photograph what is below it."""
    import nbformat
    from nbclient import NotebookClient

    os.environ |= {"MLFLOW_TRACKING_URI": uri, "IPYTHONDIR": str(folder / "ipython")}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    shown = [out.data for out in book.cells[-1].outputs if "mlspan" in out.get("data", {}).get("text/plain", "")]
    html = shown[0]["text/html"]
    (folder / "cell.html").write_text(f'<meta charset="utf-8"><body style="margin: 0; padding: 8px">{html}')
    page = chromium.new_page(viewport={"width": 720, "height": 100}, device_scale_factor=1.5)
    page.goto(f"file://{folder}/cell.html")
    save(page.locator("body").screenshot(), ROOT / "docs/images/notebook.png")
    page.close()


def phoenix(chromium: Any, folder: Path) -> None:
    """Send a demo to Phoenix, and photograph its trace with a call to the model open."""
    port = free_port()
    env = {**os.environ, "PHOENIX_WORKING_DIR": str(folder), "PHOENIX_PORT": str(port), "PHOENIX_HOST": "127.0.0.1"}
    env |= {"PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_TELEMETRY_ENABLED": "false"}
    command = [str(ROOT / ".phoenix/bin/python"), "-m", "phoenix.server.main", "serve"]
    server = Process(command, port, folder / "phoenix.log", env=env)
    try:
        server.wait(300)
        uri = f"http://127.0.0.1:{port}"
        env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": uri, "MLSPAN_OTLP_NAMES": "openinference"}
        subprocess.run([sys.executable, "-m", "mlspan.cli", "demo"], cwd=folder, env=env, check=True)
        page = chromium.new_page(viewport={"width": 1400, "height": 800})
        page.set_default_timeout(180_000)
        page.goto(uri)
        page.get_by_text("default").first.click()
        page.get_by_text("invoke_agent weather assistant").first.click()
        page.get_by_text("chat gpt-4o-mini").first.click()
        page.wait_for_timeout(5000)
        save(page.screenshot(clip={"x": 350, "y": 46, "width": 1050, "height": 754}), ROOT / "docs/images/phoenix.png")
        page.close()
    finally:
        server.stop()


def save(taken: bytes, path: Path) -> None:
    """As few bytes as a picture of text needs."""
    picture: Any = Image.open(io.BytesIO(taken)).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:] or [*SHOTS, "commands", "notebook", "phoenix"])
