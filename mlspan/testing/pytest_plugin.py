"""The pytest plugin, which every session of pytest loads where mlspan is installed.

It imports nothing of mlspan until a test asks for a fixture of it, or the command line for one of its options; then
:mod:`mlspan.testing.pytest_session` does the rest. So a session that has no use for it pays a few milliseconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

from .running_session import RunningSession, begin_session, end_session, find_running_session, note_written

if TYPE_CHECKING:
    from .answer_replay import ModelAnswers
    from .collected import Spans

PRIVATE_NAMES: Final = {
    "_must_rewrite": "pytest compiles all of mlspan anew for the messages of assertions that it does not have",
}


_OPTIONS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    (
        "--update-golden",
        {"action": "store_true", "dest": "update_golden", "help": "write golden trees of spans instead of comparing"},
    ),
    (
        "--record-answers",
        {
            "action": "store_const",
            "const": "missing",
            "dest": "record_answers",
            "help": "ask the providers what model_answers has not recorded yet, and write it down",
        },
    ),
    (
        "--record-answers-anew",
        {
            "action": "store_const",
            "const": "all",
            "dest": "record_answers",
            "help": "ask the providers everything anew, and write it down",
        },
    ),
    (
        "--trace-report",
        {
            "action": "store_const",
            "const": 10,
            "dest": "trace_report",
            "help": "collect the spans of every test, and list the ten slowest and dearest",
        },
    ),
    (
        "--trace-report-tests",
        {"type": int, "dest": "trace_report", "metavar": "N", "help": "the same, and list N tests"},
    ),
)


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Tell pytest not to rewrite the assertions of all mlspan, as it does with each distribution that has a plugin."""
    rewritten = getattr(getattr(pluginmanager, "rewrite_hook", None), "_must_rewrite", None)
    if isinstance(rewritten, set):
        rewritten -= {"mlspan", "mlspan.testing"}


@pytest.hookimpl(hookwrapper=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> Iterator[None]:
    """Add the options after those of the user's own conftest, which may have one of the same name: that one counts."""
    yield
    group = parser.getgroup("mlspan", "mlspan: traces as tests")
    for name, settings in _OPTIONS:
        try:
            group.addoption(name, **settings)
        except (ValueError, argparse.ArgumentError):  # it is there already
            continue


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what the options ask for."""
    config.addinivalue_line("markers", "trace_limits(calls, tokens, cost, seconds, ...): the most that a test may use")
    recorded, number = config.getoption("record_answers", default=None), config.getoption("trace_report", default=None)
    session = RunningSession(
        config.rootpath,
        update_golden=config.getoption("update_golden", default=False) is True,  # the user's own may be a text
        record_answers=recorded if recorded in {"missing", "all"} else "none",
        reported=number if isinstance(number, int) else None,
    )
    begin_session(session)
    config.add_cleanup(lambda: end_session(session))
    if session.reported is not None or session.update_golden or session.record_answers != "none":
        _register_hooks(config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Collect the spans of a test that has limits, or of every test for the report."""
    fixtures = getattr(item, "fixturenames", None)
    if fixtures is None or "mlspan_spans" in fixtures:
        return
    session = find_running_session()
    if (session is not None and session.reported is not None) or item.get_closest_marker("trace_limits") is not None:
        fixtures.append("mlspan_spans")


@pytest.fixture
def mlspan_spans(request: pytest.FixtureRequest) -> Iterator[Spans]:
    """Collect the spans that end during the test: ``spans`` by a name that no fixture of yours has."""
    from .memory import spans as collect
    from .pytest_session import note_spans

    _register_hooks(request.config)
    with collect() as ended:
        note_spans(request.node, ended)
        yield ended


@pytest.fixture
def spans(mlspan_spans: Spans) -> Spans:
    """Collect the spans that end during the test, as :func:`mlspan.testing.spans` does. Nothing is sent or written."""
    return mlspan_spans


@pytest.fixture(scope="session")
def model_answers_config() -> dict[str, Any]:
    """Return arguments of :func:`mlspan.testing.model_answers`, *ignore* and *redact*; define it in your conftest."""
    return {}


@pytest.fixture
def model_answers(request: pytest.FixtureRequest, model_answers_config: dict[str, Any]) -> Iterator[ModelAnswers]:
    """Answer what the test asks of models from the recording of the test; ``--record-answers`` makes that."""
    from .answer_replay import model_answers as answer
    from .golden_trees import locate_file
    from .pytest_session import note_answers

    _register_hooks(request.config)
    path = locate_file("recordings", ".json", node=request.node.nodeid)
    session = find_running_session()
    recorded = "none" if session is None else session.record_answers
    with answer(path, record=recorded, **model_answers_config) as answers:
        note_answers(request.node, answers)
        yield answers
    if answers.has_recorded:
        note_written(path)


def _register_hooks(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin("mlspan-session"):
        from .pytest_session import SessionHooks

        config.pluginmanager.register(SessionHooks(config), "mlspan-session")
