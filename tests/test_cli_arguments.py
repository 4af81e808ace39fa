"""What a person types: options in every form, what is wrong and what the message says, help, completion, Ctrl-C."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from command_line import Result, invoke

from mlspan.cli import app, completion, help_text
from mlspan.cli.arguments import Argument, Function, Option, UsageError, find_named, parse_arguments, read_parameters
from mlspan.cli.commands import COMMANDS, load_command


def list_functions() -> Iterator[tuple[str, Function]]:
    for name in COMMANDS:
        found = load_command(name)
        if isinstance(found, Mapping):
            yield from ((f"{name} {inner}", function) for inner, function in found.items())
        else:
            yield name, found


FUNCTIONS = dict(list_functions())


def example(
    place: Annotated[str | None, Argument(metavar="PLACE", help="Where.")] = None,
    limit: Annotated[int, Option("--limit", "-n", lowest=1, help="How many.")] = 20,
    share: Annotated[float, Option("--share", lowest=0, highest=1, help="How much.")] = 0.5,
    chart: Annotated[Literal["cost", "p95"] | None, Option(help="What to draw.")] = None,
    html: Annotated[Path | None, Option(metavar="FILE", help="Where to.")] = None,
    content: Annotated[bool, Option(help="With content.")] = True,
    as_json: Annotated[bool, Option("--json", "-j", help="As JSON.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing.")] = False,
) -> None:
    """Do nothing."""


def passing(
    script: Annotated[str, Argument(metavar="SCRIPT")],
    arguments: Annotated[list[str] | None, Argument(metavar="ARGS")] = None,
    module: Annotated[bool, Option("-m")] = False,
) -> None:
    """Do nothing."""


DEFAULTS: dict[str, Any] = {
    "place": None,
    "limit": 20,
    "share": 0.5,
    "chart": None,
    "html": None,
    "content": True,
    "as_json": False,
    "quiet": False,
}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", {}),
        ("here", {"place": "here"}),
        ("-", {"place": "-"}),
        ("-n 5", {"limit": 5}),
        ("-n5", {"limit": 5}),
        ("-n=5", {"limit": 5}),
        ("--limit 5 here", {"limit": 5, "place": "here"}),
        ("--limit=5", {"limit": 5}),
        ("here --limit 7 --limit 5", {"limit": 5, "place": "here"}),
        ("--share 1", {"share": 1.0}),
        ("--chart P95", {"chart": "p95"}),
        ("--html a=b", {"html": Path("a=b")}),
        ("--html=a=b", {"html": Path("a=b")}),
        ("--html=", {"html": Path()}),
        ("--html -odd", {"html": Path("-odd")}),
        ("--no-content", {"content": False}),
        ("--no-content --content", {"content": True}),
        ("--json", {"as_json": True}),
        ("-jq", {"as_json": True, "quiet": True}),
        ("-qn5", {"quiet": True, "limit": 5}),
        ("-- --limit", {"place": "--limit"}),
        ("-5", {"place": "-5"}),
    ],
)
def test_each_form(typed: str, expected: dict[str, Any]) -> None:
    """Options before and behind arguments, apart from their value or not, switches in a row."""
    assert parse_arguments(read_parameters(example), typed.split()) == {**DEFAULTS, **expected}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("app.py", ("app.py", None, False)),
        ("app.py -m --help", ("app.py", ["-m", "--help"], False)),
        ("-m package --its own", ("package", ["--its", "own"], True)),
        ("-- -odd.py -m", ("-odd.py", ["-m"], False)),
        ("app.py -- -m", ("app.py", ["--", "-m"], False)),
    ],
)
def test_what_follows_a_script_is_its_own(typed: str, expected: tuple[object, ...]) -> None:
    """Even if it looks like an option of ours."""
    assert tuple(parse_arguments(read_parameters(passing), typed.split()).values()) == expected


@pytest.mark.parametrize(
    ("function", "typed", "message"),
    [
        (example, "--limit 0", "--limit takes a whole number of at least 1, not '0'"),
        (example, "--limit -3", "--limit takes a whole number of at least 1, not '-3'"),
        (example, "--limit 1.5", "--limit takes a whole number of at least 1, not '1.5'"),
        (example, "-n x", "--limit takes a whole number of at least 1, not 'x'"),
        (example, "--share 2", "--share takes a number from 0 to 1, not '2'"),
        (example, "--share nan", "--share takes a number from 0 to 1, not 'nan'"),
        (example, "--chart foo", "--chart takes cost or p95, not 'foo'"),
        (example, "--chart", "--chart needs a value: cost or p95"),
        (example, "--limit --json", "--limit needs a value: a whole number of at least 1"),
        (example, "--json=yes", "--json takes no value"),
        (example, "--limt 5", "there is no option --limt; did you mean --limit?"),
        (example, "--zzz", "there is no option --zzz"),
        (example, "-z", "there is no option -z"),
        (example, "-qz", "there is no option -z"),
        (example, "one two", "unexpected argument: two"),
        (passing, "", "SCRIPT is missing"),
        (passing, "-m", "SCRIPT is missing"),
    ],
)
def test_what_is_wrong(function: Any, typed: str, message: str) -> None:
    """One line that says what the option takes, or which one is like it."""
    with pytest.raises(UsageError) as refused:
        parse_arguments(read_parameters(function), typed.split())
    assert str(refused.value).removesuffix("; did you mean -q?") == message


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("list --limit 0", "--limit takes a whole number of at least 1, not '0' (see: mlspan list --help)"),
        ("stats --since yesterday", "--since takes 90s, 15m, 1h, 2d, 1w, or a date such as 2026-01-31 or "),
        ("stats --until yesterday", "--until takes 90s, 15m, 1h, 2d, 1w, or a date such as 2026-01-31 or "),
        ("import garbage", "there is no file garbage (see: mlspan import --help)"),
        ("import", "FILE is missing (see: mlspan import --help)"),
        ("--limit 5 list", "there is no option --limit before the command; options of list stand behind it"),
        ("--nowhere", "there is no option --nowhere before the command (see: mlspan --help)"),
        ("notebook enabel", "there is no command notebook enabel; did you mean notebook enable? "),
        ("--show-completion tcsh", "--show-completion takes bash, zsh or fish, not 'tcsh' (see: mlspan --help)"),
    ],
)
def test_a_wrong_call(typed: str, message: str) -> None:
    """Exit code 2, nothing on standard output, and one line with where to look."""
    done = invoke(typed.split())
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"mlspan: {message}")


@pytest.mark.parametrize("typed", ["--tracking-uri none", "--tracking-uri=none", "-v --tracking-uri=none"])
def test_shared_options_may_stand_first(typed: str) -> None:
    """``mlspan --tracking-uri X list`` is ``mlspan list --tracking-uri X``."""
    leading = typed.split()
    assert invoke([*leading, "list"]) == invoke(["list", *leading])
    assert "tracking_uri=none" in invoke([*leading, "list"]).stderr


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_help_of_each_command(name: str) -> None:
    """It names each option once, and gives an example that the command takes."""
    shown = invoke([*name.split(), "--help"], env={"COLUMNS": "80"})
    assert (shown.exit_code, shown.stderr) == (0, "")
    function = FUNCTIONS[name]
    for option in find_named(read_parameters(function)):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown.stdout), option
    for line in re.findall(r"^  (mlspan .*)", shown.stdout, re.MULTILINE):
        words = shlex.split(line)[1 + len(name.split()) :]
        parse_arguments(read_parameters(function), words)


def test_help_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headings are bold in a terminal, and plain where NO_COLOR is set."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1mOptions:\x1b[0m" in "\n".join(help_text.render_command_help("list", FUNCTIONS["list"]))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "\n".join(help_text.render_command_help("list", FUNCTIONS["list"]))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("d", ["demo", "drain", "doctor"]),
        ("--v", ["--version", "--verbose"]),
        ("list\n--li", ["--limit"]),
        ("list\n--status\ne", ["error"]),
        ("--tracking-uri\nx\nlist\n--ses", ["--session"]),
        ("notebook\n", ["enable", "disable", "status"]),
        ("notebook\nenable\n--p", ["--profile"]),
        ("show\n", []),
        ("nowhere\n--", []),
    ],
)
def test_completion(typed: str, expected: list[str]) -> None:
    """Commands, their options, and the words that an option takes."""
    assert list(completion.suggest_words(typed)) == expected


def test_completion_in_bash(tmp_path: Path) -> None:
    """Bash itself gets the commands and options by the script that is installed."""
    home = {"HOME": str(tmp_path), "SHELL": "/bin/bash", "XDG_DATA_HOME": ""}
    assert invoke(["--install-completion"], env=home).exit_code == 0
    assert invoke(["--install-completion", "bash"], env=home).exit_code == 0
    assert (tmp_path / ".bashrc").read_text().count("completion.bash") == 2  # one line, written once
    command = tmp_path / "mlspan"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mlspan.cli "$@"\n')
    command.chmod(0o755)
    asked = """
. ~/.bashrc
COMP_WORDS=(mlspan list --sess); COMP_CWORD=2
_mlspan_completion mlspan
echo "${COMPREPLY[@]}"
"""
    environ = {**os.environ, **home, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", asked], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("--session\n", "")


def test_what_is_interrupted_or_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command without a traceback, as the shell expects; so does a reader that has gone."""
    monkeypatch.setattr(app, "load_command", lambda _: raise_interrupt)
    assert invoke(["list"]) == Result(130, "", "")
    command = f"{shlex.quote(sys.executable)} -m mlspan.cli --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.returncode in {0, 141}  # it may have written all before the reader went


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def test_verbose_shows_the_cause(tmp_path: Path) -> None:
    """``-v`` has the traceback of what one line says otherwise."""
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"no database, but a text that is longer than a header" * 10)
    quiet = invoke(["list", "--tracking-uri", f"sqlite:///{file}"])
    assert quiet.exit_code == 1
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in invoke(["-v", "list", "--tracking-uri", f"sqlite:///{file}"]).stderr


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("foo", "--tracking-uri=foo: there is no such folder"),
        ("ftp://ada:secret@x", "--tracking-uri=ftp://x: no store has addresses of ftp://"),
        ("http://", "--tracking-uri=http:// names no host"),
        ("http:///x", "--tracking-uri=http:///x names no host"),
        ("sqlite:///nowhere/mlflow.db", "there is no nowhere/mlflow.db: no trace has been stored yet"),
    ],
)
@pytest.mark.parametrize("command", ["list", "show", "stats", "tail", "ui"])
def test_an_address_that_is_none(command: str, uri: str, said: str) -> None:
    """One line of our own, before MLflow is imported for it."""
    done = invoke([command, "--tracking-uri", uri])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"mlspan: {said}")
