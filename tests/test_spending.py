"""What calls to models have cost in this process, and who is called at a limit."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

import openai
import pytest
from opentelemetry import trace

from mlspan import integrations, tracing
from mlspan.tracing import Spend, spending

PRICES = {"gpt-4o-mini": (0.15e-6, 0.6e-6), "gpt-4o": (2.5e-6, 10e-6)}

pytestmark = pytest.mark.usefixtures("tracing_off")


@pytest.fixture(autouse=True)
def hooked(tracing_off: None) -> Iterator[None]:
    integrations.openai.autolog()
    yield
    tracing.shutdown(10)


@pytest.fixture
def client(scripted: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=scripted.base_url, api_key="test", max_retries=0) as made:
        yield made


def ask(scripted: Any, client: openai.OpenAI, given: int = 1000, made: int = 500, model: str = "gpt-4o-mini") -> None:
    """A call that is answered with these tokens."""
    message = {"role": "assistant", "content": "Hi."}
    usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    head = {"id": "x", "object": "chat.completion", "created": 1, "model": model}
    scripted.clear()  # its last answer repeats
    scripted.reply({**head, "choices": choices, "usage": usage})
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])


def price(given: int = 1000, made: int = 500, model: str = "gpt-4o-mini") -> float:
    input_price, output_price = PRICES[model]
    return given * input_price + made * output_price


def test_nothing_is_counted_before_it_is_asked_for(scripted: Any, client: openai.OpenAI) -> None:
    ask(scripted, client)
    assert tracing.spend() == Spend()
    ask(scripted, client)
    assert tracing.spend() == Spend(pytest.approx(price()), 1, 0, 1000, 500)


def test_by_session_user_run_and_model(scripted: Any, client: openai.OpenAI) -> None:
    """A sum of those that fit, or one for each."""
    tracing.spend()
    with tracing.session("s-1"), tracing.user("ada"):
        ask(scripted, client)
        with tracing.run("run-1"), tracing.span("helper", kind="agent"):
            ask(scripted, client, model="gpt-4o")
    with tracing.session("s-2"):
        ask(scripted, client, given=10)
    assert tracing.spend(session="s-1").cost == pytest.approx(price() + price(model="gpt-4o"))
    assert tracing.spend(session="s-1", model="gpt-4o").calls == 1
    assert tracing.spend(user="ada").calls == 2
    assert tracing.spend(run="run-1").cost == pytest.approx(price(model="gpt-4o"))
    assert tracing.spend(user="nobody") == Spend()
    assert {key: one.calls for key, one in tracing.spend(by="session").items()} == {"s-1": 2, "s-2": 1}
    assert {key: one.calls for key, one in tracing.spend(by="run").items()} == {None: 2, "run-1": 1}
    assert {key: one.input_tokens for key, one in tracing.spend(by="model", session="s-1").items()} == {
        "gpt-4o-mini": 1000,
        "gpt-4o": 1000,
    }
    with pytest.raises(ValueError, match="by takes one of session, user, run, model"):
        tracing.spend(by="planet")  # type: ignore[call-overload]


def test_since(scripted: Any, client: openai.OpenAI) -> None:
    """From a time on, or within so long."""
    tracing.spend()
    ask(scripted, client)
    between = datetime.now(timezone.utc)
    ask(scripted, client)
    ask(scripted, client)
    assert tracing.spend(since=between).calls == 2
    assert tracing.spend(since=timedelta(hours=1)).calls == 3
    assert tracing.spend(since=datetime.now(timezone.utc)).calls == 0


def test_a_model_without_a_price_is_counted_and_costs_nothing(scripted: Any, client: openai.OpenAI) -> None:
    tracing.spend()
    ask(scripted, client, model="my-own")
    assert tracing.spend() == Spend(0.0, 1, 1, 1000, 500)


def test_a_limit_calls_once(scripted: Any, client: openai.OpenAI) -> None:
    """As the call ends that reaches it; not again, and not after it was taken away."""
    reached: list[Spend] = []
    take_away = tracing.on_cost(2.5 * price(), reached.append)
    for _ in range(2):
        ask(scripted, client)
    assert reached == []
    ask(scripted, client)
    assert [one.calls for one in reached] == [3]
    for _ in range(4):
        ask(scripted, client)
    assert len(reached) == 1
    take_away()
    other = tracing.on_cost(0.5 * price(), reached.append)
    other()
    ask(scripted, client)
    assert len(reached) == 1
    with pytest.raises(ValueError, match="above 0"):
        tracing.on_cost(0, reached.append)


def test_a_limit_for_each_user(scripted: Any, client: openai.OpenAI) -> None:
    """Each is counted alone; calls without a user, and those of other models, are none of them."""
    reached: list[str] = []
    tracing.on_cost(1.5 * price(), lambda spent: reached.append(f"{spent.calls}"), each="user", model="gpt-4o-mini")
    for name in ("ada", "bob", "ada", None, None, "ada"):
        with tracing.user(name):
            ask(scripted, client)
            ask(scripted, client, model="gpt-4o")
    assert reached == ["2"]
    with tracing.user("bob"):
        ask(scripted, client)
    assert reached == ["2", "2"]


def test_an_error_of_the_callers_function_reaches_nobody(
    scripted: Any, client: openai.OpenAI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSPAN_STRICT", "0")

    def stop(spent: Spend) -> None:
        raise RuntimeError("too dear")

    tracing.on_cost(0.5 * price(), stop)
    with caplog.at_level(logging.WARNING, "mlspan"):
        ask(scripted, client)
    assert "calling whom on_cost was given failed" in caplog.text
    assert tracing.spend().calls == 1


def test_a_function_may_ask_and_call_again(scripted: Any, client: openai.OpenAI) -> None:
    """What is called may itself call a model, or ask for the spend."""
    seen: list[int] = []

    def look(spent: Spend) -> None:
        ask(scripted, client)
        seen.append(tracing.spend().calls)

    tracing.on_cost(0.5 * price(), look)
    ask(scripted, client)
    assert seen == [2]


def test_an_agents_sum_and_a_framework_around_the_client_count_once(scripted: Any, client: openai.OpenAI) -> None:
    """With ``agent_usage`` the agent's span tells the tokens of the calls below it, too."""
    tracing.configure(agent_usage=True)
    tracing.spend()
    with tracing.span("helper", kind="agent"):
        ask(scripted, client)
        ask(scripted, client)
    assert tracing.spend() == Spend(pytest.approx(2 * price()), 2, 0, 2000, 1000)


@pytest.mark.any_span
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_call_with_spans_between_its_spans_counts_once(scripted: Any, client: openai.OpenAI, depth: int) -> None:
    """A router's span, and those of its attempts, stand above the client's."""
    tracing.spend()
    with tracing.span("guide", kind="agent"):
        for _ in range(2):
            with tracing.span("route", kind="chat"), ExitStack() as between:
                usage = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 500}
                trace.get_current_span().set_attributes(usage)
                for number in range(depth):
                    between.enter_context(tracing.span(f"attempt {number}"))
                ask(scripted, client)
        ask(scripted, client, given=10)
    assert tracing.spend() == Spend(pytest.approx(2 * price() + price(given=10)), 3, 0, 2010, 1500)


def test_threads_lose_no_call(scripted: Any, client: openai.OpenAI) -> None:
    """Calls that end at the same time are all counted, and the limit is reached once."""
    reached: list[Spend] = []
    tracing.on_cost(10 * price(), reached.append)
    together = threading.Barrier(8)

    def work() -> None:
        together.wait(60)
        for _ in range(5):
            ask_locked()

    lock = threading.Lock()

    def ask_locked() -> None:
        with lock:  # the server answers in the order of the script
            ask(scripted, client)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert tracing.spend().calls == 40
    assert len(reached) == 1


def test_a_stream_that_is_dropped_is_counted(scripted: Any, client: openai.OpenAI) -> None:
    """Its span ends in a finalizer, which may run anywhere."""
    tracing.spend()
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    scripted.stream({**head, "choices": [choice], "usage": usage}, {**head, "choices": [choice]})
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    next(iter(stream))
    stream.response.close()
    del stream
    gc.collect()
    assert tracing.spend().input_tokens == 10


def test_older_calls_are_summed(scripted: Any, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much to be known one by one is still in the sum."""
    monkeypatch.setattr("mlspan.tracing.spending._MOST_CALLS", 2)
    tracing.spend()
    for _ in range(5):
        with tracing.user("ada"):
            ask(scripted, client)
    assert tracing.spend().calls == 5
    assert tracing.spend(user="ada").calls == 5
    assert tracing.spend(since=timedelta(hours=-1)).calls == 0


def test_counting_begins_anew_after_a_shutdown(scripted: Any, client: openai.OpenAI) -> None:
    tracing.spend()
    ask(scripted, client)
    tracing.shutdown(10)
    assert tracing.spend() == Spend()


def test_a_program_that_does_not_ask_loads_no_prices() -> None:
    """Nothing of it is imported, and no processor of it is there."""
    code = (
        "import sys\n"
        "from mlspan import tracing\n"
        "tracing.configure(tracking_uri='none')\n"
        "from mlspan.tracing.configured_runtime import listeners\n"
        "with tracing.span('x'): pass\n"
        "assert not listeners, listeners\n"
        "assert 'genai_prices' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_sum_has_every_call_that_has_ended(scripted: Any, client: openai.OpenAI) -> None:
    """Also one that ended while another thread was about to leave off counting."""
    tracing.spend()
    (ledger,) = spending._ledgers
    with ledger._lock:  # of the other thread
        ask(scripted, client)
        asked = threading.Event()
        found: list[Spend] = []

        def ask_for_sum() -> None:
            asked.set()
            found.append(tracing.spend())

        thread = threading.Thread(target=ask_for_sum)
        thread.start()
        assert asked.wait(60)
        thread.join(0.2)  # it has got as far as the lock, or gets there later and finds all
        assert found == []
    thread.join(60)
    assert [one.calls for one in found] == [1]


FORKS = """
import os, sys, threading
from opentelemetry.trace import get_current_span
from mlspan import tracing
from mlspan.tracing import spending

def ask():
    with tracing.span("call", kind="chat"):
        get_current_span().set_attributes({"gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 1000000})

reached = []
tracing.on_cost(0.30, lambda spent: reached.append(spent.calls))
ask()
(ledger,) = spending._ledgers
held, done = threading.Event(), threading.Event()

def hold():
    with ledger._lock, spending._ledgers_lock:
        held.set()
        done.wait(60)

thread = threading.Thread(target=hold)
thread.start()
assert held.wait(60)
child = os.fork()
if not child:
    assert tracing.spend().calls == 0, "calls of the parent"
    ask()
    assert (tracing.spend().calls, reached) == (1, []), reached
    ask()
    assert (tracing.spend().calls, reached) == (2, [2]), reached
    sys.stdout.flush()
    os._exit(0)
done.set()
thread.join(60)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
ask()
assert (tracing.spend().calls, reached) == (2, [2]), reached
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_counts_its_own(tmp_path: Any) -> None:
    """From zero, with the limits of its parent, and whoever counted in the parent as it forked."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
