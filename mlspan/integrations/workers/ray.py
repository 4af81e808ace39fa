"""Ray: calls of remote functions and of actors' methods get an extra argument that holds the context of the caller.

Ray's own tracing does the same in the same two places. The wrapper that a worker receives imports mlspan; if that is
not installed there, it calls the function without a context. Functions that Ray has exported before, and calls through
Ray's client, are left alone.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, Final

from ..._guard import guard
from ..._private_names import report_missing_name
from ...hooks.hook import Hook
from . import _ray_train
from ._submit import make_install
from ._task import capture_task_context

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_private": "what a Ray task does does not belong to its caller's trace",
    "_function_signature": "what a Ray task does does not belong to its caller's trace",
    "_is_cross_language": "what a Ray task does does not belong to its caller's trace",
    "_ray_method_signatures": "what an actor's method does does not belong to its caller's trace",
}

_CONTEXT_ARGUMENT: Final = "_mlspan"


def _wrap_inject_into_function(fn: Any) -> object:
    """Wrap Ray's ``_inject_tracing_into_function``, which prepares each remote function."""

    @functools.wraps(fn)
    def inject(function: object) -> object:
        function = fn(function)
        with guard("preparing a remote function"):
            return _add_context_parameter(function)
        return function

    return inject


def _wrap_inject_into_class(fn: Any) -> object:
    """Wrap Ray's ``_inject_tracing_into_class``, which prepares the methods of each actor class."""

    @functools.wraps(fn)
    def inject(cls: object) -> object:
        result = fn(cls)
        with guard("preparing an actor"):
            for name, method in inspect.getmembers(cls, inspect.isfunction):
                bare = isinstance(inspect.getattr_static(cls, name), staticmethod) or name == "__del__"
                if not bare and not inspect.isgeneratorfunction(method) and not inspect.isasyncgenfunction(method):
                    setattr(cls, name, _add_context_parameter(method))
        return result

    return inject


def _add_context_parameter(function: Any) -> object:
    """Return *function* with the extra argument.

    Ray pickles the wrapper by value, so a worker without mlspan can load it. Ray reads the signature from what
    ``inspect.unwrap`` returns, which is the wrapper: *function* stays as it is, as other actor classes may inherit it.
    """
    signature = inspect.signature(function)
    if _CONTEXT_ARGUMENT in signature.parameters:
        return function
    around = _restore_context_around(function)
    functools.update_wrapper(around, function)
    del around.__wrapped__
    extra = inspect.Parameter(_CONTEXT_ARGUMENT, inspect.Parameter.KEYWORD_ONLY, default=None)
    existing = list(signature.parameters.values())
    at = next((i for i, one in enumerate(existing) if one.kind is inspect.Parameter.VAR_KEYWORD), len(existing))
    around.__signature__ = signature.replace(parameters=[*existing[:at], extra, *existing[at:]])
    return around


def _restore_context_around(function: Any) -> Any:
    """Return a wrapper of *function* that takes the extra argument and restores the context.

    It may be a function, a coroutine function or a generator function.
    """
    if inspect.iscoroutinefunction(function):

        async def call_async(*args: object, _mlspan: Any = None, **kwargs: object) -> object:
            try:
                from mlspan.integrations.workers._task import restored
            except ImportError:
                return await function(*args, **kwargs)
            with restored(_mlspan, wait=False):
                return await function(*args, **kwargs)

        return call_async
    if inspect.isgeneratorfunction(function):

        def call_generator(*args: object, _mlspan: Any = None, **kwargs: object) -> object:
            try:
                from mlspan.integrations.workers._task import restored
            except ImportError:
                yield from function(*args, **kwargs)
                return
            with restored(_mlspan):
                yield from function(*args, **kwargs)

        return call_generator

    def call_function(*args: Any, _mlspan: Any = None, **kwargs: Any) -> object:
        try:
            from mlspan.integrations.workers._task import restored
        except ImportError:
            return function(*args, **kwargs)
        with restored(_mlspan):
            return function(*args, **kwargs)

    return call_function


def _add_context_argument(kwargs: Any) -> object:
    """Return the keyword arguments of a call with the context added, unless the call goes through Ray's client."""
    with guard("calling a remote function"):
        from ray._private.client_mode_hook import client_mode_should_convert

        if not client_mode_should_convert() and (task_context := capture_task_context()) is not None:
            return {**(kwargs or {}), _CONTEXT_ARGUMENT: task_context}
    return kwargs


def _accepts_context(parameters: Any) -> bool:
    return any(parameter.name == _CONTEXT_ARGUMENT for parameter in parameters or ())


def _read_private(owner: object, name: str, fallback: object) -> Any:
    """Return a private attribute of one of Ray's objects; without it, *fallback*, with which no context is sent."""
    found = getattr(owner, name, _MISSING)
    if found is _MISSING:
        report_missing_name("Ray", name, PRIVATE_NAMES[name])
        return fallback
    return found


_MISSING: Final = object()


def _wrap_remote_function(fn: Any) -> object:
    @functools.wraps(fn)
    def remote(self: Any, args: Any = None, kwargs: object = None, *rest: Any, **options: Any) -> object:
        signature = _read_private(self, "_function_signature", ())  # None before the first call, which makes it
        fresh = signature is None and not _read_private(self, "_is_cross_language", True)
        if fresh or _accepts_context(signature):
            kwargs = _add_context_argument(kwargs)
        return fn(self, args, kwargs, *rest, **options)

    return remote


def _wrap_actor_creation(fn: Any) -> object:
    @functools.wraps(fn)
    def remote(self: Any, args: Any = None, kwargs: Any = None, *rest: object, **options: object) -> object:
        init = self.__ray_metadata__.method_meta.signatures.get("__init__")
        return fn(self, args, _add_context_argument(kwargs) if _accepts_context(init) else kwargs, *rest, **options)

    return remote


def _wrap_actor_method(fn: Any) -> object:
    @functools.wraps(fn)
    def call_actor_method(
        self: Any, method_name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any
    ) -> object:
        known = _read_private(self, "_ray_method_signatures", {}).get(method_name)
        return fn(
            self,
            method_name,
            args,
            _add_context_argument(kwargs) if _accepts_context(known) else kwargs,
            *rest,
            **options,
        )

    return call_actor_method


HOOK: Final = Hook(
    "ray>=2.60,<3",
    "ray",
    make_install(
        {
            "ray.remote_function:_inject_tracing_into_function": _wrap_inject_into_function,
            "ray.remote_function:RemoteFunction._remote": _wrap_remote_function,
            "ray.actor:_inject_tracing_into_class": _wrap_inject_into_class,
            "ray.actor:ActorClass._remote": _wrap_actor_creation,
            "ray.actor:ActorHandle._actor_method_call": _wrap_actor_method,
        }
    ),
    also=(Hook("ray>=2.60,<3", _ray_train.MODULE, _ray_train.install),),
)
autolog = HOOK.autolog
