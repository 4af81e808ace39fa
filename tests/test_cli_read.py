"""``mlspan list``, ``show``, ``stats`` and ``tail``, over a store whose every trace is known."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from command_line import Result, invoke
from otlp_lines import BEGAN, lines, said, span
from servers.process import BoundedPopen

from mlspan.cli import model

pytest.importorskip("mlflow")

AGENT = {"gen_ai__operation__name": "invoke_agent", "gen_ai__agent__name": "helper"}
TOOL = {"gen_ai__operation__name": "execute_tool", "gen_ai__tool__name": "look_up"}


def chat(question: str, answer: str, tokens: tuple[int, int]) -> dict[str, Any]:
    return {
        "gen_ai__operation__name": "chat",
        "gen_ai__provider__name": "openai",
        "gen_ai__request__model": "gpt-4o-mini",
        "gen_ai__usage__input_tokens": tokens[0],
        "gen_ai__usage__output_tokens": tokens[1],
        "gen_ai__input__messages": said("user", question),
        "gen_ai__output__messages": said("assistant", answer),
    }


SPANS = [
    span("a1", 1, "invoke_agent helper", at=0, ms=1000, **AGENT),
    span("a1", 2, "chat gpt-4o-mini", 1, at=100, ms=400, **chat("Is it\nsunny?", "Let me see.", (100, 10))),
    span("a1", 3, "execute_tool look_up", 1, at=500, ms=100, error="TimeoutError: nobody answered", **TOOL),
    span("a1", 4, "chat gpt-4o-mini", 1, at=700, ms=200, **chat("Is it sunny?", "Yes \x1b[31mit is", (200, 20))),
    span("b2", 5, "chat gpt-4o-mini", at=60_000, ms=50, error="RateLimitError: slow down", **chat("again", "", (0, 0))),
]


@pytest.fixture(scope="module")
def known(_template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known")
    shutil.copy(_template_store, folder / "mlflow.db")
    (folder / "spans.jsonl").write_text(lines(*SPANS))
    done = invoke(["import", str(folder / "spans.jsonl"), "--tracking-uri", f"sqlite:///{folder}/mlflow.db"])
    assert done.output.startswith("2 traces (5 spans) taken into 'Default' of sqlite:///"), done.output
    return folder / "mlflow.db"


Mlspan = Callable[..., Result]


@pytest.fixture
def mlspan(known: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mlspan]:
    """The command, in a terminal of 100 columns, in UTC."""
    monkeypatch.setenv("MLSPAN_TRACKING_URI", f"sqlite:///{known}")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield lambda *arguments: invoke(arguments)
    monkeypatch.undo()
    time.tzset()


WHOLE = "a1".ljust(32, "0")


def test_list(mlspan: Mlspan) -> None:
    """The newest first, with how it ended, how long it took, tokens, cost, and what was asked."""
    assert mlspan("list").stdout.splitlines() == [
        "b2000000  01 Jan 00:01  ✗ chat gpt-4o-mini    50 ms       0         $0  again",
        "a1000000  01 Jan 00:00  ✓ helper             1.00 s     330  $0.000063  Is it sunny?",
    ]


def test_list_what_was_asked_for(mlspan: Mlspan) -> None:
    """By status and time; what matches nothing says so, on standard error, and is no failure."""
    (only,) = json.loads(mlspan("list", "--since", "2026-01-01T00:00:30Z", "--status", "error", "--json").stdout)
    assert mlspan("list", "--since", "all", "--json").stdout == mlspan("list", "--json").stdout
    assert (only["trace_id"], only["status"], only["duration_ms"]) == ("tr-" + "b2".ljust(32, "0"), "ERROR", 50)
    nothing = mlspan("list", "--session", "s")
    assert (nothing.stdout, nothing.stderr, nothing.exit_code) == ("", "no traces match\n", 0)


TREE = """\
invoke_agent helper  OK
1.00 s · 330 tokens (300 in, 30 out) · $0.000063 · 4 spans · 2026-01-01 00:00:00
experiment Default
tr-a1000000000000000000000000000000

invoke_agent helper     █████████████████████████████████████████████████  1.00 s
Is it sunny? → Yes [31mit is
├─ chat gpt-4o-mini         ███████████████████▋                           400 ms  100→10  $0.000021
│  Is it sunny? → Let me see.
├─ execute_tool look_up                         ████▉                      100 ms
│  ✗ TimeoutError: nobody answered
└─ chat gpt-4o-mini                                       █████████▊       200 ms  200→20  $0.000042
   Is it sunny? → Yes [31mit is
"""


def test_show(mlspan: Mlspan) -> None:
    """A tree with a bar for when each span ran, its time, tokens and cost; what was said and what went wrong below."""
    assert mlspan("show", "a1").stdout == TREE


NARROW = """\
invoke_agent helper  OK
1.00 s · 330 tokens (300 in, 30 out)
$0.000063 · 4 spans · 2026-01-01 00:00:00
experiment Default
tr-a1000000000000000000000000000000

invoke_agent helper   ████████  1.00 s
Is it sunny? → Yes [31mit is
├─ chat gpt-4o-mini   ███▎      400 ms  100→10
│  Is it sunny? → Let me see.
├─ execute_tool look…     ▊     100 ms
│  ✗ TimeoutError: nobody answered
└─ chat gpt-4o-mini        █▋   200 ms  200→20
   Is it sunny? → Yes [31mit is
"""


def test_show_where_there_is_little_room(mlspan: Mlspan, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal; the cost of each span goes first."""
    monkeypatch.setenv("COLUMNS", "46")
    shown = mlspan("show", "a1").stdout.splitlines()
    assert [line for line in shown if len(line) > 46] == []
    assert mlspan("show", "a1").stdout == NARROW


ASCII = """\
invoke_agent helper  OK
1.00 s | 330 tokens (300 in, 30 out) | $0.000063 | 4 spans | 2026-01-01 00:00:00
experiment Default
tr-a1000000000000000000000000000000

invoke_agent helper      ###############################################  1.00 s
Is it sunny? -> Yes [31mit is
|-- chat gpt-4o-mini         ###################                          400 ms  100->10  $0.000021
|   Is it sunny? -> Let me see.
|-- execute_tool look_up                        #####                     100 ms
|   x TimeoutError: nobody answered
`-- chat gpt-4o-mini                                     #########        200 ms  200->20  $0.000042
    Is it sunny? -> Yes [31mit is
"""


def test_show_in_ascii(mlspan: Mlspan) -> None:
    """A terminal that knows no box drawing gets none."""
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "mlspan.cli", "show", "a1"],
        env={**os.environ, **env},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.decode("ascii") == ASCII


def test_show_as_json(mlspan: Mlspan) -> None:
    """Everything, for a program: spans in the order of the tree, each with its depth."""
    found = json.loads(mlspan("show", f"tr-{WHOLE}", "--json").stdout)
    assert found["tokens"] == {"input": 300, "output": 30, "total": 330}
    spans = [(one["depth"], one["name"], one["offset_ms"], one["duration_ms"], one["error"]) for one in found["spans"]]
    assert spans == [
        (0, "invoke_agent helper", 0, 1000, None),
        (1, "chat gpt-4o-mini", 100, 400, None),
        (1, "execute_tool look_up", 500, 100, "TimeoutError: nobody answered"),
        (1, "chat gpt-4o-mini", 700, 200, None),
    ]
    assert found["spans"][1]["attributes"]["gen_ai.usage.input_tokens"] == 100


def test_show_what_is_not_there(mlspan: Mlspan) -> None:
    """One line that says what to do, and exit code 1."""
    for asked, says in (
        ("c3", "begins with c3; mlspan list shows what there is"),
        ("xyz", "'xyz' is no trace id: give hexadecimal digits (the first few will do), or: last"),
    ):
        done = mlspan("show", asked)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.rstrip().endswith(says)


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1300])
def test_show_as_a_page(mlspan: Mlspan, browser: Any, tmp_path: Path, width: int) -> None:
    """One file that asks for nothing else, as wide as the window: the timeline, and on a click what was said."""
    path = tmp_path / "trace.html"
    done = mlspan("show", "a1", "--html", str(path))
    assert (done.exit_code, done.stdout) == (0, "")
    page, asked = browser.new_page(viewport={"width": width, "height": 800}), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator("h1").inner_text().split() == ["invoke_agent", "helper", "OK"]
    lanes = page.locator(".lane span").evaluate_all("all => all.map(one => [one.style.left, one.style.width])")
    assert lanes == [["0%", "100%"], ["10%", "40%"], ["50%", "10%"], ["70%", "20%"]]
    page.locator("summary").nth(1).click()
    assert page.locator("details[open] pre").all_inner_texts() == ["Is it\nsunny?", "Let me see."]
    assert asked == [path.as_uri()]
    page.close()


def test_what_a_model_said_is_no_markup(mlspan: Mlspan) -> None:
    """Neither the terminal's control sequences nor rich's square brackets do anything."""
    shown = mlspan("show", "a1").stdout
    assert "\x1b" not in shown
    assert "Yes [31mit is" in shown


STATS = """\
2 traces of all time
1 failed · 300 tokens in, 30 out · $0.000063 · p50 525 ms · p95 952 ms · p99 990 ms

model        calls   errors   in  out       cost     p50     p95     p99
gpt-4o-mini      3  1 (33%)  300   30  $0.000063  200 ms  380 ms  396 ms

calls
gpt-4o-mini  ████████████████████████████████████████████████████████████  3

agent   calls  errors   in  out       cost     p50     p95     p99
helper      1       -  300   30  $0.000063  1.00 s  1.00 s  1.00 s

calls
helper  ████████████████████████████████████████████████████████████  1

tool     calls    errors     p50     p95     p99
look_up      1  1 (100%)  100 ms  100 ms  100 ms

calls
look_up  ████████████████████████████████████████████████████████████  1
"""


def test_stats(mlspan: Mlspan) -> None:
    """Cost, tokens, latency and errors by model, agent and tool; an agent's are those of all below it."""
    assert mlspan("stats", "--since", "all", "--chart", "calls").stdout == STATS


def test_stats_as_json(mlspan: Mlspan) -> None:
    """The same for a program, of a time range."""
    found = json.loads(mlspan("stats", "--since", "2026-01-01", "--until", "2026-01-01T00:00:30Z", "--json").stdout)
    assert (found["traces"]["calls"], found["traces"]["errors"]) == (1, 0)
    (model,) = found["models"]
    assert (model["calls"], model["input_tokens"], model["p50_ms"], model["p95_ms"]) == (2, 300, 300, 390)
    assert [(agent["name"], agent["output_tokens"]) for agent in found["agents"]] == [("helper", 30)]
    assert [(tool["name"], tool["errors"]) for tool in found["tools"]] == [("look_up", 1)]


def test_tail(known: Path, tmp_path: Path) -> None:
    """A trace that the filter finds is told once, when it has landed; Ctrl-C ends it well."""
    shutil.copy(known, tmp_path / "mlflow.db")
    env = {**os.environ, "MLSPAN_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    argv = [sys.executable, "-m", "mlspan.cli"]
    wanted = ["--filter", "name LIKE '%new%' AND execution_time_ms >= 0"]
    with BoundedPopen(
        [*argv, "tail", "--json", *wanted], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert b"waiting for traces" in tail.stderr.readline()
        now = (time.time_ns() - BEGAN) / 1e6
        landed = [
            span(*ids, f"invoke_agent {name}", at=now, **AGENT) for *ids, name in (("c2", 8, "x"), ("c3", 9, "new"))
        ]
        (tmp_path / "new.jsonl").write_text(lines(*landed))
        subprocess.run(
            [*argv, "import", "new.jsonl"], cwd=tmp_path, env=env, check=True, capture_output=True, timeout=300
        )
        assert json.loads(tail.stdout.readline())["name"] == "invoke_agent new"
        time.sleep(2.5)
        tail.send_signal(signal.SIGINT)
        assert tail.stdout.read() == b""
        assert tail.wait(20) == 0


def test_json_on_a_terminal(mlspan: Mlspan, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would move the cursor or turn text round is escaped there, in C1 and as bidi too; the JSON says the same."""
    hostile = "a\x1b[31m\x9b2J\x7f\u202eb\u2066c\u200dé\U000e0041\n"
    monkeypatch.setattr(model, "trace_to_json", lambda _: {"text": hostile})
    plain = mlspan("list", "--json").stdout
    assert "\x9b" in plain
    written = []
    monkeypatch.setattr(model, "write_line", written.append)
    monkeypatch.setattr(sys, "stdout", mock.Mock(isatty=lambda: True))
    model.write_json([{"text": hostile}] * 2)
    assert json.loads(written[0]) == json.loads(plain)
    assert not set(written[0]) & set("\x1b\x9b\x7f\u202e\u2066\U000e0041")
    assert "\u200dé" in written[0]
