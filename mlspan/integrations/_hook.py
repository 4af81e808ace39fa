"""How an integration plugs in: a table of methods to watch, and one driver for sync, async and streams."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import wrapt
from opentelemetry.context import Context, get_current

from .._guard import guard, log, swallow, tell_once
from ..tracing import policy, setup
from ..tracing.context import active_run_id, suppressed
from ..tracing.live import go
from ..tracing.nothing import NOTHING, Dropped
from ..tracing.records import Observe, Record
from ._named import read_named
from ._patch import Undo, all_there, watch


class Call(NamedTuple):
    """A call of a watched method, as ``begin`` sees it."""

    args: tuple[Any, ...]  # the object that the method is called on comes first
    kwargs: Mapping[str, Any]
    content: bool  # whether what is said is recorded; if not, begin need not read it
    options: Mapping[str, Any]  # those of the framework alone that autolog was given


Begin = Callable[[Call], "tuple[Record, Observe[Any] | None] | None"]  # None: a call of no interest


@dataclass(frozen=True)
class Settings:
    """What ``autolog`` was last asked for."""

    log_traces: bool = True
    exclusive: bool = False
    silent: bool = False
    any_version: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    named: frozenset[str] | None = field(default=None, compare=False)  # the arguments that were given; None: all


class Hook:
    """Everything that mlspan needs to know about one framework.

    Args:
        requires: the distribution and the versions that the tests have seen, as in ``"openai>=1.66,<4"``.
        module: what an application imports.
        install: hooks in, and returns its own undo.
        options: names of the settings that only this framework has.
        also: hooks of libraries that come with this one; they are turned on and off with it.
    """

    def __init__(
        self,
        requires: str,
        module: str,
        install: Callable[[Hook], Undo],
        options: frozenset[str] = frozenset(),
        also: tuple[Hook, ...] = (),
    ) -> None:
        self.requires, self.module, self.options, self.also = requires, module, options, also
        self.settings = Settings()
        self._install = install
        self._undo: Undo | None = None
        self._wanted = self._waiting = False

    def autolog(
        self,
        log_traces: bool = True,
        disable: bool = False,
        exclusive: bool = False,
        disable_for_unsupported_versions: bool = True,
        silent: bool = False,
        **options: Any,
    ) -> None:
        """Turn the integration on, change its settings, or turn it off. Imports nothing: it waits for the library.

        Args:
            log_traces: record spans.
            disable: take every patch back.
            exclusive: record nothing while the caller has an MLflow run active.
            disable_for_unsupported_versions: stay off for a version of the library that the tests have not seen.
            silent: write no log line about this integration.
            options: settings that only this framework has.

        Raises:
            TypeError: an option is not one of this framework's.
        """
        if unknown := set(options) - self.options:
            msg = f"autolog() of {self.module} has no option {', '.join(sorted(unknown))}"
            raise TypeError(msg)
        settings = Settings(log_traces, exclusive, silent, not disable_for_unsupported_versions, options, read_named())
        self.apply(None if disable else settings)
        if self._wanted and self._undo is None and not self._installed():
            self._say("mlspan: %s is not installed, so there is nothing of it to trace", self.module)

    def _installed(self) -> bool:
        """Asked of the package alone: to look for a module below it would import it."""
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None

    @property
    def real(self) -> Hook:
        """What does the hooking: some hooks are but the face of another."""
        return self

    @property
    def hooked(self) -> bool:
        """Whether the patches are in place: not before the library is imported."""
        return self._undo is not None

    @property
    def state(self) -> str:
        """``hooked``, or in a few words why not."""
        return "hooked" if self.hooked else "not hooked"

    def apply(self, settings: Settings | None) -> None:
        """Turn on with these settings, or off with None. What the policy keeps off stays off, and says so."""
        settings = self._allowed(settings)
        self._wanted = settings is not None
        for hook in self.also:
            hook.apply(settings)
        if settings is None:
            self._disable()
            return
        self.settings = settings
        setup.join()
        if self.module in sys.modules:
            self._enable()
        elif not self._waiting:
            self._waiting = True
            wrapt.register_post_import_hook(lambda _: self._enable(), self.module)

    def _allowed(self, settings: Settings | None) -> Settings | None:
        """*settings*, or None where the policy keeps this integration off."""
        rules = policy.current()
        if settings is None or not rules.off:
            return settings
        name = next((name for name, module in _modules() if getattr(module, "HOOK", None) is self), None)
        if (file := rules.turned_off(name)) is None:
            return settings
        if not settings.silent:
            tell_once("mlspan: the policy %s keeps autolog of %s off", file, name or self.module)
        return None

    def _enable(self) -> None:
        if self._wanted and self._undo is None and self._supported():
            with guard(f"hooking into {self.module}"):
                self._undo = self._install(self)

    def _disable(self) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def _supported(self) -> bool:
        name, versions = re.split(r"(?=[<>=])", self.requires, maxsplit=1)
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # another distribution's module of the same name
            return False
        if within(version, versions):
            return True
        self._say(
            "mlspan: %s %s is outside of the tested range %s: %s",
            name,
            version,
            versions,
            "tracing it all the same"
            if self.settings.any_version
            else "not traced; disable_for_unsupported_versions=False traces it all the same",
        )
        return self.settings.any_version

    def _say(self, line: str, *args: object) -> None:
        if not self.settings.silent:
            log.warning(line, *args)

    def open(self, begin: Begin, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The Live of a call that is to be recorded, else what stands in for it."""
        around = get_current()
        if not self.records(around):
            return NOTHING
        try:  # a guard by hand: this is run for each call
            if (now := setup.runtime()) is None:
                return NOTHING
            draw = now.starter().draw(around)
            if draw.sampled is False and not now.instruments.wanted():
                return NOTHING if draw.parent else Dropped(draw.dropped())
            if begun := begin(Call(args, kwargs, now.policy.capture, self.settings.options)):
                return go(now, *begun, draw=draw)
        except Exception as error:
            if not swallow("starting a span", error):
                raise
        return NOTHING

    def records(self, around: Context | None = None) -> bool:
        """Whether a call that is made here and now, or *around*, is to be recorded."""
        settings = self.settings
        if not settings.log_traces or suppressed(around):
            return False
        return not settings.exclusive or active_run_id() is None


def _modules() -> list[tuple[str, Any]]:
    """The integrations that are imported, by the names that a policy has for them."""
    package = __name__.rpartition(".")[0] + "."
    ours = [name for name in sys.modules if name.startswith(package)]
    return [(name.removeprefix(package), sys.modules[name]) for name in ours]


def within(version: str, versions: str) -> bool:
    """Whether *version* lies in a range such as ``>=1.66,<4``: what of packaging.specifiers a range of ours needs,
    without the 40 ms that importing it takes.
    """

    def release(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in [*re.findall(r"\d+", text.partition("+")[0]), 0, 0, 0][:3])

    have = release(version)
    return all(
        have >= release(bound[2:]) if bound.startswith(">=") else have < release(bound[1:])
        for bound in versions.split(",")
    )


def methods(begins: Mapping[str, Begin]) -> Callable[[Hook], Undo]:
    """An ``install`` that watches methods: ``{"openai:OpenAI.request": begin}``. One that is missing costs no other."""

    def install(hook: Hook) -> Undo:
        return all_there(
            (target, functools.partial(watch, target, functools.partial(hook.open, begin)))
            for target, begin in begins.items()
        )

    return install
