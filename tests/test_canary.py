"""Secrets in every place where one may stand: in no exported byte, no file and no line of the log."""

from __future__ import annotations

import re
import sqlite3
import textwrap
from pathlib import Path

import pytest
from servers.program import PREAMBLE, environment, run
from servers.receiver import Receiver
from servers.scripted import Scripted

from mlspan import tracing

pytest.importorskip("openai")

KEY = "sk-proj-0123456789abcdefghijABCD"  # covered by no pattern of the user's
SECRET = re.compile(rb"canary-\w+|" + KEY[8:].encode())
PROGRAM = """
    import openai
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from mlspan import integrations

    def secret(place):  # what is redacted leaves what stands beside it, by which the test sees that it came
        return f"at-{place} canary-{place}"

    trace.set_tracer_provider(TracerProvider(resource=Resource({"service.name": "app", "owner": secret("resource")})))
    tracing.configure(redact=[r"canary-\\w+"], durability=sys.argv[1], tags={"team": secret("every-tag")})
    integrations.openai.autolog()
    app, key, base_url = trace.get_tracer("app"), os.environ["KEY"], os.environ["BASE_URL"]
    client = openai.OpenAI(api_key=key, base_url=base_url, max_retries=0)
    above = trace.Link(trace.SpanContext(7, 7, False), {"why": secret("link")})

    with tracing.session(secret("session")), tracing.user(secret("user")), tracing.tags(env=secret("tag")), \\
            tracing.request_id(secret("request")), \\
            app.start_as_current_span("GET /" + secret("name"), links=[above]) as span:
        span.set_attributes({
            "http.request.header.authorization": "Bearer " + key,
            "http.request.header.x-api-key": [secret("header")],
            "rpc.grpc.request.metadata.api-token": "canary-metadata",
            "db.statement": "select " + secret("statement"),
            "input.value": '{"messages": [{"content": "' + secret("json") + '"}]}',
            "list": [secret("list")],
            "raw": secret("bytes").encode(),
            "quoted": "Incorrect API key provided: " + key,
        })
        span.add_event(secret("event"), {"said": secret("event-attribute")})
        span.set_status(trace.StatusCode.ERROR, secret("status"))
        try:
            raise RuntimeError(secret("recorded") + " " + key)
        except RuntimeError as error:
            span.record_exception(error)
        messages = [{"role": "system", "content": secret("system")}, {"role": "user", "content": secret("message")}]
        tools = [{"type": "function", "function": {"name": "f", "description": secret("description")}}]
        headers = {"Authorization": "Bearer " + key, "X-Secret": "canary-extra"}
        client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools, extra_headers=headers)
        try:
            client.chat.completions.create(model="gpt-4o", messages=messages)
        except openai.AuthenticationError:
            pass
        with tracing.span("look up", kind="tool", input={"q": secret("argument")}) as tool:
            trace.get_current_span().set_attribute("mine", secret("attribute"))
            trace.get_current_span().set_attribute("mlspan.input.too", secret("attribute-too"))
            tool.output = [secret("result")]
            tracing.feedback("quality", secret("value"), rationale=secret("rationale"), source_id=secret("source"),
                             metadata={"by": secret("metadata")})
        try:
            with tracing.span(secret("agent"), kind="agent"):
                raise ValueError(secret("exception") + " " + key)
        except ValueError:
            pass
        trace_id = tracing.current_trace_id()
    tracing.feedback(secret("log"), 1)
    tracing.feedback("late", secret("late"), trace_id=trace_id)
"""
NOWHERE = {"at-log", "at-header"}  # only in a line of the log; covered as a whole


def places(receiver: Receiver) -> set[str]:
    return {found.decode() for body in receiver.bodies for found in re.findall(rb"at-[a-z-]+[a-z]", body)}


def secrets(*where: bytes) -> list[bytes]:
    return sorted({found for data in where for found in SECRET.findall(data)})


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


ANSWER = {"role": "assistant", "content": "at-answer canary-answer"}
COMPLETION = {"id": "1", "model": "gpt-4o", "choices": [{"index": 0, "message": ANSWER, "finish_reason": "stop"}]}
REFUSAL = {"error": {"message": f"at-refusal canary-refusal: Incorrect API key: {KEY}"}}
EVERYWHERE = set(re.findall(r'secret\("([a-z-]+)"\)', PROGRAM))


@pytest.mark.parametrize("durability", ["batch", "span"])
def test_no_secret_leaves(durability: str, receiver: Receiver, scripted: Scripted, tmp_path: Path) -> None:
    """To an OTLP receiver and a tracking server that are away first, so that it waits on disk; then from there."""
    scripted.reply(COMPLETION)
    scripted.reply(REFUSAL, status=401)
    env = environment(tmp_path / "spool", receiver.url, receiver.url, KEY=KEY, BASE_URL=scripted.base_url)
    receiver.mode = 503
    save = "    from mlspan.tracing import runtime; runtime.get_runtime().save_to_disk(5); os.kill(os.getpid(), 9)\n"
    end = save if durability == "span" else ""
    done = run((PROGRAM + end).replace("sys.argv[1]", repr(durability)), env)
    assert done.returncode == (-9 if end else 0), done.stderr
    waiting = files(tmp_path / "spool")
    assert b"at-message" in b"".join(waiting)
    receiver.mode = "ok"
    drained = run("print(tracing.drain(timeout=20).sent)", env)
    assert int(drained.stdout) > 0, drained.stderr
    said = done.stdout + done.stderr + drained.stdout + drained.stderr
    assert "at-log [redacted]" in said
    assert secrets(said.encode(), *waiting, *receiver.bodies, *files(tmp_path)) == []
    assert {f"at-{place}" for place in EVERYWHERE} | {"at-answer", "at-refusal"} == places(receiver) | NOWHERE


@pytest.mark.usefixtures("_collected")
def test_no_secret_is_stored(
    scripted: Scripted,
    mlflow_store: str,
    tracing_off: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """In MLflow's own database; the program runs in this process, whose provider it has to take."""
    scripted.reply(COMPLETION)
    scripted.reply(REFUSAL, status=401)
    settings = {"KEY": KEY, "BASE_URL": scripted.base_url, "MLSPAN_TRACKING_URI": mlflow_store}
    for name, value in {**settings, "MLSPAN_SPOOL_DIR": str(tmp_path / "spool")}.items():
        monkeypatch.setenv(name, value)
    lines = [line for line in textwrap.dedent(PROGRAM).splitlines() if "set_tracer_provider" not in line]
    exec(PREAMBLE + "\n".join(lines).replace("sys.argv[1]", "'batch'"), {})  # as the child of the test above
    assert tracing.flush(120)
    with sqlite3.connect(mlflow_store.removeprefix("sqlite:///")) as database:
        rows = "\n".join(database.iterdump()).encode()
    assert secrets(rows, *files(tmp_path / "spool")) == []
    came = {found.decode() for found in re.findall(rb"at-[a-z-]+[a-z]", rows)}
    assert {f"at-{place}" for place in EVERYWHERE - {"resource"}} - NOWHERE - came == set()
