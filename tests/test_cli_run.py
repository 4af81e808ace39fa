"""``mlspan demo``, ``run``, ``doctor`` and ``ui`` as processes of their own, and what all commands have in common."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Result, invoke
from servers.process import BoundedPopen, free_port

from mlspan.cli import form
from mlspan.cli.commands import COMMANDS

Mlspan = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def mlspan(tmp_path: Path) -> Mlspan:
    """The command, in an empty folder and with nothing set but what the test says."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLSPAN_", "MLFLOW_", "OTEL_", "OPENAI_"))}

    def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "mlspan.cli", *arguments]
        env = {**keep, "MLSPAN_STRICT": "1", "COLUMNS": "100", **environ}
        return subprocess.run(
            argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=150, check=False, encoding="utf-8"
        )

    return call


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    """Each command says what it does, in a terminal of 60 columns too."""
    done = invoke([command, "--help"], env={"COLUMNS": "60"})
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"mlspan {command}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 60


def test_no_command() -> None:
    """Without a command all are listed; with one that there is not, exit code 2 and the name that is like it."""
    listed = invoke([]).output
    assert [name for name in COMMANDS if f" {name} " not in listed] == []
    unknown = "mlspan: there is no command lst; did you mean list? (see: mlspan --help)\n"
    assert invoke(["lst"]) == Result(2, "", unknown)
    assert invoke(["--version"]).stdout.startswith("mlspan 0.")


def test_starting_is_quick(mlspan: Mlspan, tmp_path: Path) -> None:
    """Help and completion wait for no MLflow and no framework."""
    (tmp_path / "loaded.py").write_text(
        "import sys\nfrom mlspan.cli import app\nprint([n for n in ('mlflow', 'openai', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "loaded.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_demo(mlspan: Mlspan, tmp_path: Path) -> None:
    """Without a key, a server or a database: a trace in the folder's own store, shown, and where to look at it."""
    pytest.importorskip("mlflow")
    pytest.importorskip("openai")
    done = mlspan("demo", MLSPAN_EXPERIMENT="first steps")
    assert done.returncode == 0, done.stderr
    names = re.findall(r"^[ │├└─]*((?:invoke_agent|chat|execute_tool) \S+(?: \S+)?)", done.stdout, re.MULTILINE)
    tree = ["chat gpt-4o-mini", "execute_tool get_weather", "chat gpt-4o-mini"]
    assert [name.partition("  ")[0].split(" █")[0].strip() for name in names][-3:] == tree
    assert "session demo · user ada" in done.stdout
    command, *arguments = shlex.split(done.stdout.splitlines()[-1])
    assert (Path(command).name, arguments) == ("mlspan", ["ui"])
    told = """Recording a chat that calls a tool. The answers are canned, as no OPENAI_API_KEY is set.
Storing it in sqlite:///FOLDER/mlflow.db by MLflow, which takes some seconds, as it makes the database first ...
Stored in TIME: experiment first steps, run mlspan demo.
Look at it in MLflow:
"""
    assert re.sub(r"(?<=in )[\d.]+ m?s", "TIME", done.stderr.replace(str(tmp_path), "FOLDER")) == told
    (trace,) = json.loads(mlspan("list", "--json", "-e", "first steps").stdout)
    assert (trace["status"], trace["session"], trace["user"], trace["tokens"]["total"]) == ("OK", "demo", "ada", 235)
    shown = mlspan("show", "--no-content").stdout
    assert "experiment first steps · run mlspan demo · session demo · user ada" in shown


def test_the_demo_says_at_once_what_it_does(mlspan: Mlspan) -> None:
    """Its first line waits for no library that is slow to import, and its trace for no MLflow."""
    for line, absent in (
        ("from mlspan.cli import demo", {"mlflow", "openai", "opentelemetry", "rich"}),
        ("from mlspan.cli import demo_steps", {"mlflow", "numpy"}),
    ):
        code = f"{line}; import sys; print(sorted({absent!r} & sys.modules.keys()))"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
        assert done.stdout == "[]\n", line


def test_the_demo_stays_in_the_run_that_is_set(mlspan: Mlspan, mlflow_server: str) -> None:
    """With MLFLOW_RUN_ID, as a program here would; a server stores the trace without MLflow in this process."""
    pytest.importorskip("openai")
    body = json.dumps({"experiment_id": "0", "run_name": "mine", "start_time": 1}).encode()
    request = urllib.request.Request(
        f"{mlflow_server}/api/2.0/mlflow/runs/create", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        run_id = json.load(answer)["run"]["info"]["run_id"]
    done = mlspan("demo", MLFLOW_TRACKING_URI=mlflow_server, MLFLOW_RUN_ID=run_id)
    assert done.returncode == 0, done.stderr
    assert f"experiment Default, run {run_id}.\n" in done.stderr
    (trace,) = json.loads(mlspan("list", "--json", "--run", run_id, MLFLOW_TRACKING_URI=mlflow_server).stdout)
    assert trace["run_id"] == run_id


def test_a_demo_that_is_not_recorded_or_stored(mlspan: Mlspan) -> None:
    """One line says so, and which command finds out why."""
    pytest.importorskip("openai")
    off = mlspan("demo", "--tracking-uri", f"http://127.0.0.1:{free_port()}", OTEL_TRACES_SAMPLER="always_off")
    assert (off.returncode, off.stderr.splitlines()[-1]) == (
        1,
        "mlspan: the settings here record no spans; to find out why, run: mlspan doctor",
    )
    away = mlspan("demo", "--tracking-uri", f"http://127.0.0.1:{free_port()}")
    assert (away.returncode, "invoke_agent weather assistant" in away.stdout) == (1, True)
    assert re.match(r"mlspan: the trace was not stored: cannot reach .*: mlspan doctor$", away.stderr.splitlines()[-1])


def test_demo_where_nobody_answers(mlspan: Mlspan, mlflow_store: str) -> None:
    """A model that is not there is one line, not a traceback."""
    pytest.importorskip("openai")
    done = mlspan("demo", "--tracking-uri", mlflow_store, OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("mlspan: the model did not answer (APIConnectionError)")
    assert "Traceback" not in done.stderr


SCRIPT = """
import sys
from beside import name
from mlspan import tracing
from openai import OpenAI
print(__name__, sys.argv[1:], name)
OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
sys.exit(3)
"""


@pytest.mark.parametrize("as_module", [False, True], ids=["a script", "a module"])
def test_run(mlspan: Mlspan, mlflow_store: str, aimock: str, tmp_path: Path, as_module: bool) -> None:
    """A program as Python itself would run it: its arguments, the files beside it, its exit code; and a trace."""
    (tmp_path / "program.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("name = 'a module beside it'")
    what = ["-m", "program"] if as_module else ["program.py"]
    environ = {"OPENAI_BASE_URL": aimock, "OPENAI_API_KEY": "none"}
    done = mlspan("run", "--tracking-uri", mlflow_store, *what, "--its", "own", **environ)
    assert (done.stdout, done.stderr) == ("__main__ ['--its', 'own'] a module beside it\n", "")
    assert done.returncode == 3
    (trace,) = json.loads(mlspan("list", "--json", "--tracking-uri", mlflow_store).stdout)
    assert trace["name"] == "chat gpt-4o-mini"


def test_run_what_fails(mlspan: Mlspan, tmp_path: Path) -> None:
    """The traceback begins in the program; one that is not there is a wrong call."""
    (tmp_path / "program.py").write_text("def go():\n    raise KeyError('k')\ngo()\n")
    done = mlspan("run", "program.py", MLSPAN_TRACKING_URI="none")
    assert done.returncode == 1
    assert re.findall(r'File ".*/(\w+\.py)", line (\d+)', done.stderr) == [("program.py", "3"), ("program.py", "2")]
    assert mlspan("run", "nowhere.py").returncode == 2
    assert mlspan("run", "-m", "nowhere").stderr == "mlspan run: there is no module nowhere\n"


def test_doctor_all_well(mlspan: Mlspan, mlflow_store: str) -> None:
    """Each setting with where it came from, each library, and a trace that was really written."""
    done = mlspan("doctor", MLFLOW_TRACKING_URI=mlflow_store, MLSPAN_TAGS="env=dev")
    assert done.returncode == 0, done.stdout
    assert re.search(r"tracking_uri +sqlite:///\S+ +\(MLFLOW_TRACKING_URI\)", done.stdout)
    assert re.search(r"tags +env=dev +\(MLSPAN_TAGS\)", done.stdout)
    assert re.search(r"✓ openai [\d.]+ +\(tested: >=1.66,<4\)", done.stdout)
    assert re.search(r"✓ write: a trace was stored in \d+ ms, and removed again", done.stdout)
    assert done.stdout.endswith("✓ nothing is wrong\n")
    assert mlspan("list", "--tracking-uri", mlflow_store).stdout == ""


def test_doctor_with_a_server(mlspan: Mlspan, mlflow_server: str) -> None:
    """The same by HTTP."""
    done = mlspan("doctor", "--tracking-uri", mlflow_server, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"]) == (0, [])
    assert [check["name"] for check in found["checks"]] == ["MLflow", "experiment", "write"]
    assert found["settings"]["tracking_uri"] == {"value": mlflow_server, "source": "argument"}


def test_doctor_with_an_experiment_by_name(mlspan: Mlspan, mlflow_server: str, mlflow_store: str) -> None:
    """One that is new is not made by asking; one that is there is found, on a server and in a database."""
    for uri in (mlflow_server, mlflow_store):
        place = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": f"named {uuid.uuid4()}"}
        for arguments in (["--no-write"], []):
            asked = mlspan("doctor", *arguments, **place)
            assert "is new: the first trace makes it" in asked.stdout, asked.stderr
        assert mlspan("demo", **place).returncode == 0
        found = mlspan("doctor", **place)
        assert "a trace was stored in" in found.stdout, found.stderr
        assert "is new" not in found.stdout


def test_doctor_finds_what_is_wrong(mlspan: Mlspan) -> None:
    """A server and a receiver that are away, a bad value, a misspelt variable, a switch that turns all off."""
    nobody = f"http://127.0.0.1:{free_port()}"
    environ = {"MLSPAN_SAMPLE_RATIO": "4", "MLSPAN_REDACTT": "x", "OTEL_SDK_DISABLED": "true"}
    done = mlspan("doctor", "--json", MLFLOW_TRACKING_URI=nobody, OTEL_EXPORTER_OTLP_ENDPOINT=nobody, **environ)
    assert done.returncode == 1
    problems = json.loads(done.stdout)["problems"]
    assert [re.split(r" is |=|: | \(\w+Error\)", problem)[0] for problem in problems] == [
        "MLSPAN_SAMPLE_RATIO",
        "MLSPAN_REDACTT",
        "OTEL_SDK_DISABLED",
        f"cannot reach the tracking server {nobody}",
        f"{nobody} (http/protobuf) takes no spans (nothing answers there)",
    ]
    assert "did you mean MLSPAN_REDACT?" in problems[1]


def test_doctor_tries_the_receiver(mlspan: Mlspan, phoenix: object) -> None:
    """An OTLP receiver that we did not write accepts a request, by HTTP and by gRPC."""
    for endpoint, protocol in ((phoenix.http, "http/protobuf"), (phoenix.grpc, "grpc")):  # type: ignore[attr-defined]
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        found = json.loads(mlspan("doctor", "--json", MLSPAN_TRACKING_URI="none", **environ).stdout)
        assert found["checks"][1] == {"name": "OTLP", "well": True, "says": f"{endpoint} ({protocol}) accepts requests"}


def test_doctor_tells_no_password(mlspan: Mlspan) -> None:
    """What is in an address for the server alone is not printed."""
    done = mlspan("doctor", "--tracking-uri", f"http://ada:secret@127.0.0.1:{free_port()}")
    assert "secret" not in done.stdout + done.stderr


def test_ui(mlflow_store: str) -> None:
    """MLflow's viewer on the store, its address on standard output; ended with all that it has started."""
    port = free_port()
    argv = [sys.executable, "-m", "mlspan.cli", "ui", "--port", str(port), "--tracking-uri", mlflow_store]
    with BoundedPopen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        address = viewer.stdout.readline().strip()
        assert address == f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"<title>MLflow</title>" in answer.read()
        viewer.send_signal(signal.SIGINT)
        assert viewer.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=30)


def test_nothing_stored_yet(tmp_path: Path) -> None:
    """Reading where nothing has been stored makes no database, and says what to do."""
    for command in ("list", "show", "stats", "ui"):
        done = invoke([command, "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"])
        assert (done.exit_code, done.stdout) == (1, "")
        assert re.fullmatch(r"mlspan: there is no \S+mlflow.db: no trace .* run: mlspan demo\n", done.stderr)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (form.format_duration(0.04), "0.0 ms"),
        (form.format_duration(9.96), "10 ms"),
        (form.format_duration(999.6), "1.00 s"),
        (form.format_duration(9_994.9), "9.99 s"),
        (form.format_duration(59_994), "60.0 s"),
        (form.format_duration(125_000), "2m 05s"),
        (form.format_duration(3_720_000), "1h 02m"),
        (form.format_cost(0.0000421), "$0.000042"),
        (form.format_cost(1234.5), "$1,234.50"),
        (form.format_cost(0), "$0"),
        (form.format_cost(None), ""),
        (form.format_count(9_999), "9,999"),
        (form.format_count(12_345), "12.3k"),
        (form.format_count(4_500_000), "4.5M"),
        (form.truncate_to_width("東京の天気", 7), "東京の…"),
        (form.truncate_to_width("abc", 2, ascii_only=True), "ab"),
        (form.strip_control_characters("a\x1b[2J\u202eb\n"), "a[2Jb "),
        (form.draw_span_bar(0.99, 0.5, 10), " " * 9 + "█"),
        (form.draw_span_bar(0, 0, 8), "▏"),
        (form.parse_time("1h", now=7200), 3_600_000),
        (form.parse_time("2026-01-01T00:00Z"), 1_767_225_600_000),
    ],
)
def test_figures(said: object, expected: object) -> None:
    """Times, counts, money and text as a person reads them."""
    assert said == expected
