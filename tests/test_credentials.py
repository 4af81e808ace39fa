"""Credentials go to the hosts that the environment names and to no other; a spool of another user is left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import invoke
from servers.process import free_port
from servers.program import environment, run
from servers.receiver import Receiver
from servers.scripted import Scripted

from mlspan import tracing
from mlspan.tracing.export import trusted_hosts
from mlspan.tracing.export.destination import fill_destination
from mlspan.tracing.export.mlflow.sink import MlflowSink
from mlspan.tracing.operations.call_context import TraceOrigin

SECRETS = {
    "MLFLOW_TRACKING_TOKEN": "canary",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=canary,authorization=Bearer canary",
}


@pytest.fixture(autouse=True)
def no_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted_hosts, "_trusted", set())


@pytest.fixture
def other() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


def heard(server: Scripted) -> list[str]:
    """The names of the headers with a secret in them, of all requests."""
    return sorted({name for headers, _ in server.requests for name, value in headers.items() if "canary" in value})


@pytest.mark.parametrize("names", ["another", "it"])
@pytest.mark.parametrize("kind", ["mlflow", "otlp"])
def test_a_spool_for_another_host(
    scripted: Scripted, other: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, names: str
) -> None:
    """Drained where the environment is for B, what was meant for A reaches A, and no secret does."""
    url = scripted.base_url.removesuffix("/v1")
    scripted.reply({}, status=503)
    where = {"mlflow": url} if kind == "mlflow" else {"otlp": url}
    run("work(0, 3)", environment(tmp_path, **where))
    scripted.clear()
    scripted.reply({"experiment": {"experiment_id": "0", "name": "Default", "lifecycle_stage": "active"}})
    named = url if names == "it" else other.url
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", named)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    done = invoke(["drain", "--spool-dir", str(tmp_path)])
    assert done.stdout == "3 spans sent\n"
    assert f"sending 3 spans to {kind} {url}" in done.stderr.splitlines()[0]
    secret = ["authorization"] if kind == "mlflow" else ["authorization", "x-api-key"]
    assert heard(scripted) == (secret if names == "it" else [])
    assert other.bodies == []


def test_the_same_name_by_another_scheme_or_port_is_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token for https is not sent in the clear."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:p@Host.example/path")
    assert trusted_hosts.is_trusted("mlflow", "https://host.example:443/elsewhere")
    for uri in ("http://host.example", "https://host.example:444", "https://evil.example", "https://host.example.evil"):
        assert not trusted_hosts.is_trusted("mlflow", uri)
    assert not trusted_hosts.is_trusted("otlp", "https://host.example")


def test_what_the_application_names_itself_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its settings, or by mlflow.set_tracking_uri while it runs; not by a trace of another process."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary")
    sink = MlflowSink(tracking_uri="http://a.example")
    assert sink._find_store("http://a.example").headers["Authorization"] == "Bearer canary"
    assert "Authorization" not in sink._find_store("http://b.example").headers
    fill_destination(TraceOrigin(tracking_uri="http://b.example"), "", None, None)
    assert sink._find_store("http://b.example").headers["Authorization"] == "Bearer canary"
    assert "Authorization" not in sink._find_store("http://c.example").headers
    sink.close()
    assert (
        "Authorization"
        not in MlflowSink(tracking_uri="http://d.example", of_spool=True)._find_store("http://d.example").headers
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user(receiver: Receiver, tmp_path: Path) -> None:
    """Nothing of it is sent, by a drain or by a program that starts; the program keeps its own spans in memory."""
    spool = tmp_path / "spool"
    receiver.mode = 503
    run("work(0, 3)", environment(spool, None, receiver.url))
    receiver.mode = "ok"
    os.chown(spool, 12345, 12345)
    with pytest.raises(PermissionError, match="belongs to another user"):
        tracing.drain(spool_dir=spool)
    done = run("work(3, 5)", environment(spool, None, receiver.url))
    assert "belongs to another user" in done.stderr
    assert receiver.otlp == {"execute_tool 3": 1, "execute_tool 4": 1}
    os.chown(spool, 0, 0)
    (file,) = (path for path in spool.iterdir() if path.suffix == ".spool")
    os.chown(file, 12345, 12345)
    assert tracing.drain(spool_dir=spool).sent == 0
    os.chown(file, 0, 0)
    assert tracing.drain(spool_dir=spool).sent == 3


@pytest.mark.parametrize("status", [None, 302, 401, 404, 413, 418, 503])
@pytest.mark.parametrize("kind", ["mlflow", "otlp"])
def test_no_line_shows_the_secrets_of_an_address(
    scripted: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, status: int | None
) -> None:
    """Whatever a server answers, or where there is none: neither the log nor the result of a flush has them."""
    port = free_port() if status is None else int(scripted.base_url.split(":")[-1].removesuffix("/v1"))
    for _ in range(20 if status else 0):
        scripted.reply({"message": "no"}, status=status or 0)
    address = f"http://ada:canary@127.0.0.1:{port}/v1/traces?token=canary&a=b"
    where = {"tracking_uri": address} if kind == "mlflow" else {"tracking_uri": "none", "otlp_endpoint": address}
    tracing.configure(spool_dir=str(tmp_path / "spool"), **where)
    try:
        with tracing.span("step", kind="tool"):
            pass
        result = tracing.flush(3)
        assert not result
        assert "canary" not in str(result)
    finally:
        tracing.shutdown(1)
    assert "127.0.0.1" in caplog.text
    assert "canary" not in caplog.text
