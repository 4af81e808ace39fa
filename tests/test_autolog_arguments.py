"""The arguments of every ``autolog`` and the docs of them follow one definition, ``mlspan.hooks.autolog_settings``."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mlspan
from mlspan import integrations
from mlspan.cli import hooked
from mlspan.hooks import Hook
from mlspan.hooks.autolog_settings import FLAG_NAMES, TRAINING_OPTIONS, AutologSettings
from mlspan.integrations import workers
from mlspan.integrations._training.hook import TrainingHook
from mlspan.integrations.workers import _task

DOCS = Path(__file__).parent.parent / "docs"


def list_common() -> dict[str, Any]:
    """Return the arguments that every integration takes, with their defaults."""
    flags = {name: getattr(AutologSettings(), name) for name in FLAG_NAMES}
    any_version = flags.pop("any_version")
    return {**flags, "disable_for_unsupported_versions": not any_version, "disable": False}


def list_defaults(autolog: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(autolog).parameters.values()
    return {one.name: one.default for one in parameters if one.name != "self" and one.kind is not one.VAR_KEYWORD}


def list_documented(autolog: Callable[..., Any]) -> set[str]:
    return set(re.findall(r"^    (\w+): ", inspect.getdoc(autolog) or "", re.MULTILINE)) - {
        "TypeError",
        "MlflowException",
    }


SIGNATURES = {
    "an integration": (Hook.autolog, list_common()),
    "a training": (TrainingHook.autolog, {**list_common(), **TRAINING_OPTIONS}),
    "all": (integrations.autolog, {**list_common(), **TRAINING_OPTIONS, "exclude_flavors": None, "workers": True}),
    "at the top": (mlspan.autolog, {**list_common(), **TRAINING_OPTIONS, "exclude_flavors": None, "workers": True}),
}
# The order of MLflow's autolog(), which callers may rely on: what is given by position means the same.
MLFLOW_ORDER = [
    *("log_input_examples", "log_model_signatures", "log_models", "log_datasets", "log_traces", "disable", "exclusive"),
    *("disable_for_unsupported_versions", "silent", "extra_tags", "exclude_flavors"),
]


@pytest.mark.parametrize("where", SIGNATURES)
def test_a_signature(where: str) -> None:
    """Names and defaults are those of the definition, and the docstring tells of each."""
    autolog, expected = SIGNATURES[where]
    assert list_defaults(autolog) == expected
    assert list_documented(autolog) - {"options"} == set(expected)


def test_arguments_by_position() -> None:
    """Those of ``mlspan.autolog`` are MLflow's in MLflow's order; a training takes none, as MLflow's orders differ."""
    for autolog, order in ((mlspan.autolog, MLFLOW_ORDER), (TrainingHook.autolog, ["self"])):
        parameters = inspect.signature(autolog).parameters.values()
        assert [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == order
    with pytest.raises(TypeError, match="positional"):
        integrations.xgboost.autolog(["weight"])


@pytest.mark.parametrize("flavor", ["openai", "gemini", "pytorch"])
def test_excluded_flavors_are_left_as_they_are(flavor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An integration whose flavor is excluded is neither turned on nor off, as with MLflow's autolog."""
    asked: set[str] = set()
    monkeypatch.setattr("mlspan.hooks.deferred_settings.apply_settings", lambda name, *_: asked.add(name))
    integrations.autolog()
    everything = set(asked)
    asked.clear()
    integrations.autolog(exclude_flavors=[flavor])
    monkeypatch.undo()
    integrations.autolog(disable=True)
    (left,) = everything - asked
    assert left == {"gemini": "google_genai", "pytorch": "lightning"}.get(flavor, flavor)


def test_workers_take_a_part() -> None:
    """They record nothing of their own, so that they have fewer arguments."""
    assert list_defaults(workers.autolog).items() <= list_common().items()
    assert list_documented(workers.autolog) == set(list_defaults(workers.autolog))


def test_a_task_takes_all_along() -> None:
    """What is sent with a task is the whole definition, and the options."""
    hook = integrations.openai.HOOK
    before, sent = hook.settings, {}
    for name in FLAG_NAMES:
        changed = AutologSettings(**{name: not getattr(AutologSettings(), name)})
        hook.apply_settings(changed)
        sent[name] = json.loads(_task.capture_task_context() or "{}")["hooks"]["openai"]["settings"]
        _task._apply_sent_settings({"openai": {"settings": sent[name], "options": {}, "trains": False}})
        assert hook.settings == changed
    hook.apply_settings(None)
    hook.settings = before
    assert len({tuple(one) for one in sent.values()}) == len(FLAG_NAMES)


def read_tables(page: str) -> Iterator[dict[str, str]]:
    """Yield each table of names and defaults of a page."""
    for table in re.findall(
        r"^\| (?:argument|option) \| default \|.*\n\|[-| ]+\n((?:\|.*\n)+)", (DOCS / page).read_text(), re.MULTILINE
    ):
        yield dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", table, re.MULTILINE))


@pytest.mark.parametrize(("page", "where"), [("integrations/index.md", "an integration"), ("classic.md", "all")])
def test_the_docs(page: str, where: str) -> None:
    """A table has each argument and its default."""
    (table,) = read_tables(page)
    assert table == {name: repr(default) for name, default in SIGNATURES[where][1].items()}


@pytest.mark.parametrize("name", sorted({**list_common(), **TRAINING_OPTIONS}.keys() - {"disable"}))
def test_each_argument_arrives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``integrations.autolog`` and a training's own pass each to the hook, and change nothing else."""
    default = {**list_common(), **TRAINING_OPTIONS}[name]
    given = {"extra_tags": {"a": "b"}, "registered_model_name": "m"}.get(name, not default)
    training = next(hook for _, hook in hooked.iterate_hooks() if isinstance(hook, TrainingHook))
    settings: list[AutologSettings | None] = []
    note = lambda hook, one: settings.append(one) if hook is training else None  # noqa: E731
    monkeypatch.setattr(TrainingHook, "apply_settings", note)
    monkeypatch.setattr(Hook, "apply_settings", lambda _hook, _settings: None)
    for autolog in (integrations.autolog, training.autolog):
        settings.clear()
        autolog()
        autolog(**{name: given})
        plain, changed = (dict(vars(one)) for one in settings if one is not None)
        before, after = ({**one.pop("options"), **one} for one in (plain, changed))
        different = {key for key in after if key != "named" and after[key] != before[key]}
        assert different == {"any_version" if name == "disable_for_unsupported_versions" else name}
        assert after["named"] - {"self"} == {name}
