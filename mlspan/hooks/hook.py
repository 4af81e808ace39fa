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
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.context import Context, get_current

from .._copies import call_at_retirement, take_over_recording
from .._guard import guard, log, swallow_error, warn_once
from .._shape import find_known
from ..tracing import runtime
from ..tracing.mlflow_state.evaluation import RecordedLibrary, recorded_libraries
from ..tracing.mlflow_state.runs import get_active_run_id
from ..tracing.operations.noop import NOOP_OPERATION, UnsampledOperation
from ..tracing.operations.operation import start_operation
from ..tracing.operations.suppression import is_suppressed
from ..tracing.otel.compat import SUPPRESSION_KEY
from ..tracing.settings import admin_policy
from . import catalog
from .autolog_settings import AutologSettings
from .call import Begin, Call
from .named_arguments import read_named
from .patching import (
    CallStarter,
    Installation,
    Patch,
    PatchPoint,
    PatchPointMissing,
    Undo,
    apply_patches,
    call_when_imported,
    is_half_imported,
    trace_method,
)
from .version_range import is_version_in_range, split_requirement


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
        distributions: other distributions of the same library, such as builds of it for other machines.
        patching_options: those of *options* that decide what is patched; a change of one installs the patches anew.
    """

    def __init__(
        self,
        requires: str,
        module: str,
        install: Callable[[Hook], Undo],
        options: frozenset[str] = frozenset(),
        also: tuple[Hook, ...] = (),
        distributions: tuple[str, ...] = (),
        patching_options: frozenset[str] = frozenset(),
    ) -> None:
        self.requires, self.module, self.options, self.also = requires, module, options, also
        self.distributions, self._patching_options = distributions, patching_options
        self.settings = AutologSettings()
        self._install = install
        self._undo: Undo | None = None
        self._installed_in: object = None  # the module whose import has installed the patches
        self._wanted = False
        self.has_been_set = False  # by apply_settings()
        self._waiting: dict[str, Undo] = {}  # by the module that is waited for: what ends the waiting
        self._installation = Installation()
        self._missing: str | None = None  # why the last install was taken back

    def autolog(
        self,
        log_traces: bool = True,
        disable: bool = False,
        exclusive: bool = False,
        disable_for_unsupported_versions: bool = True,
        silent: bool = False,
        **options: object,
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
        settings = AutologSettings(
            log_traces, exclusive, silent, not disable_for_unsupported_versions, options, read_named()
        )
        self.apply_settings(None if disable else settings)
        if self._wanted:
            runtime.resume_recording()
        if self._wanted and self._undo is None and not self._is_library_available():
            self._log_warning("mlspan: %s is not installed, so there is nothing of it to trace", self.module)

    def _is_library_available(self) -> bool:
        return has_package(self.module)

    @property
    def backing_hook(self) -> Hook:
        """Return the hook that installs the patches: this one, or the one that this one stands for."""
        return self

    @property
    def is_wanted(self) -> bool:
        """Return whether the integration is turned on, be its library imported or not."""
        return self._wanted

    @property
    def is_installed(self) -> bool:
        """Return whether the patches are in place, which is never so before the library is imported."""
        return self._undo is not None

    @property
    def state(self) -> str:
        """``hooked``, or in a few words why not."""
        return "hooked" if self.is_installed else f"not hooked: {self._missing}" if self._missing else "not hooked"

    @property
    def patch_points(self) -> tuple[PatchPoint, ...]:
        """Return the places in the library that the last install has looked for, each found or missing."""
        return tuple(self._installation.points.values())

    def apply_settings(self, settings: AutologSettings | None) -> None:
        """Turn the integration on with these *settings*, or off with None; a shutdown stays in force.

        An integration that the administrator's policy keeps off stays off, and a warning names the policy.
        """
        settings = self._apply_policy(settings)
        self.has_been_set, self._wanted = True, settings is not None
        for hook in self.also:
            hook.apply_settings(settings)
        if settings is None:
            self._stop_waiting()
            self._remove_patches()
            return
        before, self.settings = self.settings.options, settings
        changed = [one for one in self._patching_options if bool(before.get(one)) != bool(settings.options.get(one))]
        if changed and self._undo is not None and sys.modules.get(self.module) is self._installed_in:
            self._remove_patches()
        take_over_recording()
        call_at_retirement(self, functools.partial(self.apply_settings, None))
        if self.module in sys.modules and self.module in self._waiting:
            if not is_half_imported(self.module):  # the end of the import installs
                self._install_if_wanted()
        else:
            self._wait_for(self.module, self._install_if_wanted, again=True)

    def _wait_for(self, module: str, callback: Callable[[], object], *, again: bool = False) -> None:
        """Call *callback* when *module* is imported, unless the integration has been turned off by then.

        With *again* it is called each time, where the program takes the module out of ``sys.modules`` in between.
        """
        if module not in self._waiting:
            self._waiting[module] = call_when_imported(module, callback, again=again)

    def _stop_waiting(self) -> None:
        """Wait for no module any longer."""
        while self._waiting:
            self._waiting.popitem()[1]()

    def _apply_policy(self, settings: AutologSettings | None) -> AutologSettings | None:
        """Return *settings*, or None if the administrator's policy keeps this integration off."""
        if settings is None or not admin_policy.load_policy().disabled:
            return settings
        name = catalog.find_name(self)
        return None if catalog.is_kept_off(name, self.module, silent=settings.silent) else settings

    def _install_if_wanted(self) -> None:
        """Install the patches if the integration is on, not installed yet, and the library's version is supported."""
        module = sys.modules.get(self.module)
        if module is not self._installed_in:  # the program has imported the library anew
            self._remove_patches()
        if self._wanted and self._undo is None and self._is_version_supported():
            with guard(f"hooking into {self.module}"):
                self._undo, self._installed_in = self._install_completely(), module

    def _install_completely(self) -> Undo | None:
        """Install the patches and return their undo; an install that fails, or that nothing is there for, leaves none.

        Raises:
            Exception: what the install has raised, after everything was taken back.
        """
        self._installation, self._missing = Installation(silent=self.settings.silent), None
        try:
            with self._installation.record():
                undo = self._install(self)
                self._installation.check_found_any()
        except PatchPointMissing as missing:
            self._missing = str(missing)
            if not self.settings.silent:
                warn_once("mlspan: %s is not traced: %s", self.module, missing, place=self.module)
            return None
        self._installation.warn_about_missing()
        recorded_libraries[self] = RecordedLibrary(
            self.module, functools.partial(catalog.find_name, self), lambda: self.settings.log_traces
        )
        return undo

    def _remove_patches(self) -> None:
        """Remove the patches, if they are installed."""
        undo, self._undo = self._undo, None
        if undo is not None:
            recorded_libraries.pop(self, None)
            undo()

    def find_installed_version(self) -> str | None:
        """Return the version of the library that is installed, or None."""
        name, _ = split_requirement(self.requires)
        return find_known(map(find_version, (name, *self.distributions)))

    def _is_version_supported(self) -> bool:
        """Return whether the installed version is one to trace, and warn about a version outside of the tested range.

        A module of the same name from another distribution is not supported.
        """
        name, versions = split_requirement(self.requires)
        version = self.find_installed_version()
        if version is None:  # another distribution's module of the same name
            return False
        if is_version_in_range(version, versions):
            return True
        self._log_warning(
            "mlspan: %s %s is outside of the tested range %s: %s",
            name,
            version,
            versions,
            "tracing it all the same"
            if self.settings.any_version
            else "not traced; disable_for_unsupported_versions=False traces it all the same",
        )
        return self.settings.any_version

    def _log_warning(self, line: str, *args: object) -> None:
        """Log *line* as a warning, unless the integration is silent."""
        if not self.settings.silent:
            log.warning(line, *args)

    def make_starter(self, begin: Begin) -> CallStarter:
        """Return what :func:`trace_method` and :func:`trace_subclasses` need to start the operations of calls.

        It is :meth:`start_operation` with *begin*, and with the function that is called, which the two fill in.
        """
        return CallStarter(self.start_operation, begin)

    def start_operation(
        self, begin: Begin, args: tuple[Any, ...], kwargs: dict[str, Any], *, function: Callable[..., Any] | None = None
    ) -> Any:
        """Start the operation of a call and return it, to be used as a context manager around the call.

        Return a stand-in with the same methods if the call is not recorded: tracing is off or suppressed, the trace
        is not sampled, *begin* returns None, or *begin* fails, which is logged once and does not reach the caller.

        Args:
            begin: reads the call into a record.
            args: the positional arguments, the object that the method is called on first.
            kwargs: the keyword arguments.
            function: the function that is called, for :meth:`Call.argument`.
        """
        context, settings = get_current(), self.settings
        is_plain = settings.log_traces and not settings.exclusive and not context.get(SUPPRESSION_KEY)  # as most are
        if not is_plain and not self.should_record(context):
            return NOOP_OPERATION
        try:  # not guard(): this runs for each call, and entering a context manager would cost more
            if (now := runtime.get_runtime()) is None:
                return NOOP_OPERATION
            sampling = now.get_span_starter().decide_sampling(context)
            if sampling.sampled is False and not now.instruments.has_meter_provider():
                return NOOP_OPERATION if sampling.parent else UnsampledOperation(sampling.make_unrecorded_span())
            call = tuple.__new__(Call, (args, kwargs, now.policy.capture, settings.options, function))
            if begun := begin(call):
                return start_operation(now, *begun, sampling=sampling)
        except Exception as error:
            if _accepts(function, args, kwargs) and not swallow_error("starting a span", error):
                raise
        return NOOP_OPERATION

    def should_record(self, around: Context | None = None) -> bool:
        """Return whether a call made now is to be recorded; *around* is its OpenTelemetry context, if not the current.

        It is not if spans are off, tracing is suppressed, or ``exclusive`` is set and an MLflow run is active.
        """
        settings = self.settings
        if not settings.log_traces or is_suppressed(around):
            return False
        return not settings.exclusive or get_active_run_id() is None


def has_package(module: str) -> bool:
    """Return whether the top-level package is there; searching for a module below it would import it."""
    package = module.partition(".")[0]
    return package in sys.modules or importlib.util.find_spec(package) is not None


def find_version(distribution: str) -> str | None:
    """Return the version of a distribution that is installed, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _accepts(function: Callable[..., object] | None, args: tuple[object, ...], kwargs: dict[str, object]) -> bool:
    """Return whether the arguments fit the signature. If not, the call raises its own TypeError: nothing is logged."""
    if function is None:
        return True
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # it has no readable signature
        return True
    return True


def trace_methods(begins: Mapping[str, Begin]) -> Callable[[Hook], Undo]:
    """Return the ``install`` of a hook that traces methods, such as ``{"openai:OpenAI.request": begin}``.

    Each key is ``module:Class.method`` or ``module:function``. A method that the installed version of the library
    lacks is left out, with a warning; the others are traced all the same.
    """

    def install(hook: Hook) -> Undo:
        return apply_patches(
            Patch(
                target,
                functools.partial(trace_method, start=hook.make_starter(begin)),
                f"calls of {target.rpartition(':')[2]}",
            )
            for target, begin in begins.items()
        )

    return install
