"""Hook: an integration of one library, which installs its patches when the library is imported and removes them again.

An integration is a table of methods to trace, each with a ``begin`` that turns a call into a record::

    def begin(call: Call) -> tuple[Record, Observe]:
        return Chat(provider="tinyllm", model=call.kwargs.get("model")), observe

    def observe(chat: Chat, answer: Any) -> None:
        chat.draft.get_choice().add_text(answer["text"])

    HOOK = Hook("tinyllm>=1,<3", "tinyllm", trace_methods({"tinyllm:Client.ask": begin}))
    autolog = HOOK.autolog

The hook checks the version of the library, the settings and the administrator's policy. It starts and ends the spans,
for functions and coroutines, for whole answers and streams, and keeps errors of ``begin`` and ``observe`` out of the
caller's program.
"""

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
from ..integrations._training.named_arguments import read_named
from ..tracing import runtime
from ..tracing.mlflow_state.runs import active_run_id
from ..tracing.operations.call_context import suppressed
from ..tracing.operations.noop import NOTHING, Dropped
from ..tracing.operations.operation import go
from ..tracing.operations.records import Observe, Record
from ..tracing.settings import admin_policy
from .patching import Undo, all_there, watch


class Call(NamedTuple):
    """A call of a traced method, as ``begin`` reads it.

    Attributes:
        args: the positional arguments; the object that the method is called on comes first.
        kwargs: the keyword arguments.
        capture_content: whether messages and other content are recorded. If not, ``begin`` need not read them.
        options: the options of ``autolog`` that only this integration has, as far as the caller has set them.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    content: bool
    options: Mapping[str, Any]


# Reads a call into a record, with the function that reads the answer into it (None if there is nothing to read).
# Returns None for a call that is not to be recorded.
Begin = Callable[[Call], "tuple[Record, Observe[Any] | None] | None"]


@dataclass(frozen=True)
class Settings:
    """The arguments of the last call of ``autolog``.

    Attributes:
        log_traces: record spans.
        exclusive: record nothing while the caller has an MLflow run active.
        silent: write no log line about the integration.
        any_version: trace versions of the library that the tests have not seen, too.
        options: options that only this integration has.
    """

    log_traces: bool = True
    exclusive: bool = False
    silent: bool = False
    any_version: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    named: frozenset[str] | None = field(default=None, compare=False)  # the arguments that were given; None: all


class Hook:
    """An integration of one library.

    Nothing is imported and nothing is patched until :meth:`autolog` has been called and the library is imported.

    Args:
        requires: the distribution and the versions that the tests have seen, such as ``"openai>=1.66,<4"``.
        module: the module whose import installs the patches.
        install: installs the patches and returns the function that removes them; see :func:`trace_methods`. It is
            given this hook.
        options: names of the options of ``autolog`` that only this integration has.
        also: hooks of libraries that belong to this one; they are turned on and off with it.
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
        """Turn the integration on, change its settings, or turn it off.

        Import nothing: if the library is not imported yet, the patches are installed when it is.

        Args:
            log_traces: record spans.
            disable: take every patch back.
            exclusive: record nothing while the caller has an MLflow run active.
            disable_for_unsupported_versions: stay off for a version of the library that the tests have not seen.
            silent: write no log line about this integration.
            options: options that only this integration has.

        Raises:
            TypeError: the integration has no such option.
        """
        if unknown := set(options) - self.options:
            msg = f"autolog() of {self.module} has no option {', '.join(sorted(unknown))}"
            raise TypeError(msg)
        settings = Settings(log_traces, exclusive, silent, not disable_for_unsupported_versions, options, read_named())
        self.apply(None if disable else settings)
        if self._wanted and self._undo is None and not self._installed():
            self._say("mlspan: %s is not installed, so there is nothing of it to trace", self.module)

    def _installed(self) -> bool:
        """Return whether the top-level package is installed; searching for a module below it would import it."""
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None

    @property
    def real(self) -> Hook:
        """Return the hook that installs the patches: this one, or the one that this one stands for."""
        return self

    @property
    def hooked(self) -> bool:
        """Return whether the patches are in place, which is never so before the library is imported."""
        return self._undo is not None

    @property
    def state(self) -> str:
        """``hooked``, or in a few words why not."""
        return "hooked" if self.hooked else "not hooked"

    def apply(self, settings: Settings | None) -> None:
        """Turn the integration on with these *settings*, or off with None.

        An integration that the administrator's policy keeps off stays off, and a warning names the policy.
        """
        settings = self._allowed(settings)
        self._wanted = settings is not None
        for hook in self.also:
            hook.apply(settings)
        if settings is None:
            self._disable()
            return
        self.settings = settings
        runtime.join()
        if self.module in sys.modules:
            self._enable()
        elif not self._waiting:
            self._waiting = True
            wrapt.register_post_import_hook(lambda _: self._enable(), self.module)

    def _allowed(self, settings: Settings | None) -> Settings | None:
        """Return *settings*, or None if the administrator's policy keeps this integration off."""
        rules = admin_policy.current()
        if settings is None or not rules.off:
            return settings
        name = next((name for name, module in _modules() if getattr(module, "HOOK", None) is self), None)
        if (file := rules.turned_off(name)) is None:
            return settings
        if not settings.silent:
            tell_once("mlspan: the policy %s keeps autolog of %s off", file, name or self.module)
        return None

    def _enable(self) -> None:
        """Install the patches if the integration is on, not installed yet, and the library's version is supported."""
        if self._wanted and self._undo is None and self._supported():
            with guard(f"hooking into {self.module}"):
                self._undo = self._install(self)

    def _disable(self) -> None:
        """Remove the patches, if they are installed."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def _supported(self) -> bool:
        """Return whether the installed version is one to trace, and warn about a version outside of the tested range.

        A module of the same name from another distribution is not supported.
        """
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
        """Log *line* as a warning, unless the integration is silent."""
        if not self.settings.silent:
            log.warning(line, *args)

    def open(self, begin: Begin, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Start the operation of a call and return it, to be used as a context manager around the call.

        Return a stand-in with the same methods if the call is not recorded: tracing is off or suppressed, the trace
        is not sampled, *begin* returns None, or *begin* fails, which is logged once and does not reach the caller.

        Args:
            begin: reads the call into a record.
            args: the positional arguments, the object that the method is called on first.
            kwargs: the keyword arguments.
        """
        context = get_current()
        if not self.records(context):
            return NOTHING
        try:  # not guard(): this runs for each call, and entering a context manager would cost more
            if (now := runtime.runtime()) is None:
                return NOTHING
            sampling = now.starter().draw(context)
            if sampling.sampled is False and not now.instruments.wanted():
                return NOTHING if sampling.parent else Dropped(sampling.dropped())
            if begun := begin(Call(args, kwargs, now.policy.capture, self.settings.options)):
                return go(now, *begun, draw=sampling)
        except Exception as error:
            if not swallow("starting a span", error):
                raise
        return NOTHING

    def records(self, around: Context | None = None) -> bool:
        """Return whether a call made now is to be recorded; *around* is its OpenTelemetry context, if not the current.

        It is not if spans are off, tracing is suppressed, or ``exclusive`` is set and an MLflow run is active.
        """
        settings = self.settings
        if not settings.log_traces or suppressed(around):
            return False
        return not settings.exclusive or active_run_id() is None


def _modules() -> list[tuple[str, Any]]:
    """Return the integrations imported so far, as pairs of the name that a policy uses for one, and its module."""
    package = "mlspan.integrations."
    ours = [name for name in sys.modules if name.startswith(package)]
    return [(name.removeprefix(package), sys.modules[name]) for name in ours]


def within(version: str, versions: str) -> bool:
    """Return whether *version* lies in the range *versions*, such as ``>=1.66,<4``.

    The first three numbers of a version are compared. ``packaging.specifiers`` would do the same, but takes 40 ms to
    import.
    """

    def parse_release(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in [*re.findall(r"\d+", text.partition("+")[0]), 0, 0, 0][:3])

    have = parse_release(version)
    return all(
        have >= parse_release(bound[2:]) if bound.startswith(">=") else have < parse_release(bound[1:])
        for bound in versions.split(",")
    )


def methods(begins: Mapping[str, Begin]) -> Callable[[Hook], Undo]:
    """Return the ``install`` of a hook that traces methods, such as ``{"openai:OpenAI.request": begin}``.

    Each key is ``module:Class.method`` or ``module:function``. A method that the installed version of the library
    lacks is left out; the others are traced all the same.
    """

    def install(hook: Hook) -> Undo:
        return all_there(
            (target, functools.partial(watch, target, functools.partial(hook.open, begin)))
            for target, begin in begins.items()
        )

    return install
