"""DSPy's programs, agents, evaluations and optimisers: one tree for a run, by its callbacks."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("DSPY_CACHEDIR", f"{os.environ['XDG_STATE_HOME']}/dspy")
dspy = pytest.importorskip("dspy")
if importlib.util.find_spec("litellm") is not None:
    import litellm_kit  # noqa: F401  # before DSPy imports LiteLLM

from dspy.dsp.utils.settings import Settings
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import LMError

from mlspan import integrations, tracing
from mlspan.integrations.dspy.callbacks import dspy_runs
from mlspan.testing import Spans, content, contracts

MODEL = "gpt-4o-mini"
pytestmark = [  # DSPy closes no client, and LiteLLM declares what pydantic warns of
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*ReadOnly:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def dspy_on(spans: Spans) -> Iterator[None]:
    """The hook of DSPy, for the length of a test, after which nothing is kept of its calls."""
    integrations.dspy.autolog(log_traces=True)
    yield
    integrations.dspy.autolog(disable=True)
    assert len(dspy_runs) == 0


on = pytest.mark.usefixtures("dspy_on")


def say(tokens: tuple[int, int] = (20, 7), **fields: str) -> dict[str, Any]:
    """An answer in the form that DSPy's adapter has asked for."""
    text = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())
    message = {"role": "assistant", "content": f"{text}\n\n[[ ## completed ## ]]"}
    given, taken = tokens
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken},
    }


def make_model(server: Any, **options: Any) -> Any:
    where = {"api_base": server.base_url, "api_key": "test"}
    return dspy.LM(f"openai/{MODEL}", **where, **{"cache": False, "num_retries": 0, **options})


def use(server: Any, **options: Any) -> Any:
    """Return the settings of a program that asks this server, for a ``with`` block."""
    return dspy.context(lm=make_model(server, **options))


class Answerer(dspy.Module):  # type: ignore[misc]
    """A program with one step."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("question -> answer")

    def forward(self, question: str) -> Any:
        return self.think(question=question)

    async def aforward(self, question: str) -> Any:
        return await self.think.acall(question=question)


def get_weather(city: str) -> str:
    """The weather in a city."""
    if city == "Atlantis":
        raise LookupError(f"there is no {city}")
    return f"sunny in {city}"


TREE = (
    "invoke_workflow Answerer\n"
    "  ChainOfThought\n"
    "    Predict\n"
    "      ChatAdapter.format\n"
    f"      chat {MODEL} [20 in, 7 out]\n"
    "      ChatAdapter.parse"
)


@on
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("engine", "client"),
    [("lm15", ""), ("lm15", "litellm"), ("litellm", ""), ("litellm", "litellm"), ("litellm", "openai")],
)
def test_a_program_is_one_tree(engine: str, client: str, is_async: bool, scripted: Any, spans: Spans) -> None:
    """The program is the root, its modules below it, with what the adapter does around the call to the model.

    The tokens are those that the server tells, whichever engine makes the request, with the hook of its client or
    without.
    """
    if "litellm" in {engine, client}:
        pytest.importorskip("litellm")
    if client:
        getattr(integrations, client).autolog()
    scripted.reply(say(reasoning="it is", answer="sunny"))
    try:
        with use(scripted, engine=engine):
            said = asyncio.run(Answerer().acall(question="q")) if is_async else Answerer()(question="q")
    finally:
        if client:
            getattr(integrations, client).autolog(disable=True)
    assert said.answer == "sunny"
    assert len(scripted.requests) == 1
    assert spans.tree() == TREE


@on
def test_what_the_spans_of_a_program_say(scripted: Any, spans: Spans) -> None:
    """Inputs and outputs as a person reads them, the signature, and the program's version."""
    scripted.reply(say(reasoning="it is", answer="sunny"))
    with use(scripted):
        Answerer()(question="the weather?")
    root, _, step, prompt, call, parser = spans.all
    assert content(root, "mlspan.input") == {"question": "the weather?"}
    assert content(root, "mlspan.output") == {"reasoning": "it is", "answer": "sunny"}
    assert (step.attributes or {})["mlspan.dspy.signature"] == "question -> reasoning, answer"
    assert len(str((root.attributes or {})["mlspan.dspy.program.version"])) == 12
    assert [(one.attributes or {})["mlspan.kind"] for one in (step, prompt, parser)] == ["module", "prompt", "parser"]
    assert content(parser, "mlspan.output") == {"reasoning": "it is", "answer": "sunny"}
    attributes = call.attributes or {}
    assert {name: attributes[f"gen_ai.{name}"] for name in ("provider.name", "request.model", "response.id")} == {
        "provider.name": "openai",
        "request.model": MODEL,
        "response.id": "c-1",
    }
    system, asked = content(call, "gen_ai.input.messages")
    assert (system["role"], "the weather?" in asked["parts"][0]["content"]) == ("system", True)
    (answer,) = content(call, "gen_ai.output.messages")
    assert answer["parts"][0]["content"].startswith("[[ ## reasoning ## ]]")


@on
def test_without_content(scripted: Any, spans: Spans) -> None:
    """With ``capture_content=False`` there are the same spans, and nothing of what was said."""
    scripted.reply(say(reasoning="it is", answer="sunny"))
    tracing.configure(capture_content=False)
    try:
        with use(scripted):
            Answerer()(question="the weather?")
    finally:
        tracing.configure(capture_content=True)
    assert spans.tree() == TREE
    said = json.dumps([dict(span.attributes or {}) for span in spans.all])
    assert [word for word in ("sunny", "weather", "it is") if word in said] == []


@on
@pytest.mark.parametrize("city", ["Paris", "Atlantis"])
def test_an_agent_with_a_tool(city: str, scripted: Any, spans: Spans) -> None:
    """The tool is below its agent and linked to the call that asked for it; one that raises is an error."""
    arguments = json.dumps({"city": city})
    scripted.reply(say((30, 9), next_thought="look", next_tool_name="get_weather", next_tool_args=arguments))
    scripted.reply(say((31, 8), next_thought="done", next_tool_name="finish", next_tool_args="{}"))
    scripted.reply(say(reasoning="it is", answer="sunny"))
    with use(scripted):
        dspy.ReAct("question -> answer", tools=[get_weather])(question="weather?")
    kept = [line for line in spans.tree().splitlines() if "Adapter" not in line]
    error = " [ERROR LookupError]" if city == "Atlantis" else ""
    assert kept == [
        "invoke_agent ReAct",
        "  Predict",
        f"    chat {MODEL} [30 in, 9 out]",
        f"  execute_tool get_weather{error}",
        "  Predict",
        f"    chat {MODEL} [31 in, 8 out]",
        "  execute_tool finish",
        "  ChainOfThought",
        "    Predict",
        f"      chat {MODEL} [20 in, 7 out]",
    ]
    (tool,), first = spans.named("execute_tool get_weather"), spans.named(f"chat {MODEL}")[0]
    assert content(tool, "gen_ai.tool.call.arguments") == {"city": city}
    assert (tool.attributes or {})["gen_ai.tool.description"] == "The weather in a city."
    assert (tool.attributes or {})["gen_ai.agent.name"] == "ReAct"
    (link,) = tool.links
    assert (link.context.span_id, dict(link.attributes or {})) == (first.context.span_id, {"mlspan.link": "asked_by"})


@on
def test_an_answer_that_cannot_be_parsed(scripted: Any, spans: Spans) -> None:
    """Each call counts once; the adapter that fails is an error, and the program that goes on with another is none."""
    scripted.reply(say(nothing="here"))
    fixed = say(reasoning="it is", answer="sunny")
    fixed["choices"][0]["message"]["content"] = json.dumps({"reasoning": "it is", "answer": "sunny"})
    scripted.reply(fixed)
    with use(scripted):
        assert Answerer()(question="q").answer == "sunny"
    assert [line.strip() for line in spans.tree().splitlines() if ".format" not in line] == [
        "invoke_workflow Answerer",
        "ChainOfThought",
        "Predict",
        f"chat {MODEL} [20 in, 7 out]",
        "ChatAdapter.parse [ERROR dspy.utils.exceptions.AdapterParseError]",
        f"chat {MODEL} [20 in, 7 out]",
        "JSONAdapter.parse",
    ]


@on
def test_a_refused_request_is_the_error_of_all_above(scripted: Any, spans: Spans) -> None:
    """What was raised to the program is on each span."""
    scripted.reply({"error": {"message": "not today", "code": "no"}}, status=400)
    with use(scripted), pytest.raises(LMError, match="not today") as raised:
        Answerer()(question="q")
    error = f" [ERROR dspy.utils.exceptions.{type(raised.value).__name__}]"
    assert [line.strip() for line in spans.tree().splitlines()] == [
        f"invoke_workflow Answerer{error}",
        f"ChainOfThought{error}",
        f"Predict{error}",
        "ChatAdapter.format",
        f"chat {MODEL}{error}",
    ]


@on
def test_an_answer_from_the_cache(scripted: Any, spans: Spans) -> None:
    """The second answer comes out of DSPy's cache: nobody is billed for it."""
    scripted.reply(say(answer="sunny"))
    model = make_model(scripted, cache=True)
    for _ in range(2):
        model("a question that only this test asks")
    assert len(scripted.requests) == 1
    assert spans.tree("mlspan.dspy.cached") == f"chat {MODEL} [20 in, 7 out]\nchat {MODEL} [mlspan.dspy.cached=True]"


def is_exact(example: Any, said: Any, trace: object = None) -> bool:
    return bool(example.answer == said.answer)


EXAMPLES = [dspy.Example(question=f"q{i}", answer=answer).with_inputs("question") for i, answer in enumerate("ab")]


@on
def test_an_evaluation_and_its_scores(scripted: Any, spans: Spans) -> None:
    """The programs that run in threads are below the evaluation, whose score is an evaluation of the conventions."""
    scripted.reply(say(reasoning="r", answer="a"))
    with tracing.span("request"), use(scripted):
        dspy.Evaluate(devset=EXAMPLES, metric=is_exact, num_threads=2, display_progress=False)(Answerer())
    below = [line for line in spans.tree().splitlines() if "Adapter" not in line]
    one = [
        "    invoke_workflow Answerer",
        "      ChainOfThought",
        "        Predict",
        f"          chat {MODEL} [20 in, 7 out]",
    ]
    assert below == ["request", "  Evaluate", *one, *one]
    (span,) = spans.named("Evaluate")
    found = content(span, "mlspan.output")
    assert (found["score"], [each["score"] for each in found["results"]]) == (50.0, [True, False])
    assert found["results"][0]["example"] == {"question": "q0", "answer": "a"}
    (event,) = [event for event in span.events if event.name == "gen_ai.evaluation.result"]
    attributes = event.attributes or {}
    assert (attributes["gen_ai.evaluation.name"], attributes["gen_ai.evaluation.score.value"]) == ("is_exact", 50.0)


@on
def test_an_optimiser_makes_another_version(scripted: Any, spans: Spans) -> None:
    """An optimiser's span holds what it has run; the program that it makes has a version of its own."""
    scripted.reply(say(reasoning="r", answer="a"))
    optimiser = dspy.BootstrapFewShot(metric=is_exact, max_bootstrapped_demos=1, max_labeled_demos=1)
    with use(scripted):
        plain = Answerer()
        plain(question="q")
        compiled = optimiser.compile(plain, trainset=EXAMPLES)
        compiled(question="q")
        compiled(question="again")
    roots = [span for span in spans.all if span.parent is None]
    assert [span.name for span in roots] == [
        "invoke_workflow Answerer",
        "BootstrapFewShot",
        "invoke_workflow Answerer",
        "invoke_workflow Answerer",
    ]
    before, made, first, again = [str((span.attributes or {})["mlspan.dspy.program.version"]) for span in roots]
    assert before != made == first == again
    assert (roots[1].attributes or {})["mlspan.dspy.trainset"] == 2


@on
def test_a_batch_is_below_its_caller(scripted: Any, spans: Spans) -> None:
    """Threads of DSPy know the caller's span."""
    scripted.reply(say(reasoning="r", answer="a"))
    with tracing.span("request"), use(scripted):
        Answerer().batch(EXAMPLES, num_threads=2, disable_progress_bar=True)
    assert [line for line in spans.tree().splitlines() if "Answerer" in line] == ["  invoke_workflow Answerer"] * 2


@on
def test_callbacks_of_the_program_stay_as_they_are(scripted: Any, spans: Spans) -> None:
    """A callback of the program is called beside ours, which the settings do not show."""
    heard: list[str] = []

    class Listener(BaseCallback):  # type: ignore[misc]
        def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            heard.append("start")

    scripted.reply(say(answer="a"))
    with dspy.context(callbacks=[Listener()]):
        make_model(scripted)("hello")
        assert [type(one) for one in dspy.settings.callbacks] == [Listener]
    assert heard == ["start"]
    assert spans.tree() == f"chat {MODEL} [20 in, 7 out]"


class OneCall:
    """A language model of DSPy that is called by itself."""

    span = f"chat {MODEL}"
    tokens = (20, 7)
    texts = ("a greeting", "hello there")
    fails = LMError

    @pytest.fixture(autouse=True)
    def _serve(self, scripted: Any) -> None:
        self.server = scripted
        self.model = make_model(scripted)

    def autolog(self, **options: Any) -> None:
        integrations.dspy.autolog(**options)

    def list_targets(self) -> list[tuple[object, str]]:
        return [(Settings, "get")]

    def answer(self, **options: Any) -> None:
        self.server.clear()
        self.server.reply(say(answer="hello there"), **options)

    def refuse(self) -> None:
        self.server.clear()
        self.server.reply({"error": {"message": "no such model"}}, status=400)


class TestCalls(OneCall, contracts.CallContract):
    def make_call(self) -> object:
        self.answer()
        return self.model("a greeting")

    def make_failing_call(self) -> object:
        self.refuse()
        return self.model("a greeting")


class TestAsyncCalls(OneCall, contracts.AsyncCallContract):
    async def make_call(self) -> object:
        self.answer()
        return await make_model(self.server).acall("a greeting")

    async def make_failing_call(self) -> object:
        self.refuse()
        return await make_model(self.server).acall("a greeting")

    async def make_hanging_call(self) -> object:
        self.answer(delay=0.5)
        return await make_model(self.server).acall("a greeting")


@on
@pytest.mark.parametrize("is_left", [False, True])
def test_a_streamed_program(is_left: bool, scripted: Any, spans: Spans) -> None:
    """A stream has its tokens. A reader who leaves is no error, and leaves nothing open."""
    pieces = ["[[ ## answer ## ]]", "\n", *["sunny "] * 40, "\n\n[[ ## completed ## ]]"]
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}]}
        for piece in pieces
    ]
    end = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
    scripted.stream(*chunks, end, {**head, "choices": [], "usage": usage}, "[DONE]")

    async def read() -> None:
        with use(scripted):
            items = dspy.streamify(dspy.Predict("question -> answer"))(question="q")
            async for _ in items:
                if is_left:
                    break
            await items.aclose()

    asyncio.run(read())
    lines = [line for line in spans.tree().splitlines() if "Adapter" not in line]
    assert "ERROR" not in spans.tree()
    if is_left:
        assert lines[0] == "invoke_workflow Predict [stream closed]"
    else:
        assert lines == ["invoke_workflow Predict", f"  chat {MODEL} [20 in, 7 out]"]
