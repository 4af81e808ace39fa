"""Ray: a call of a remote function or of an actor's method has one more argument, which says what surrounds its caller.

That is how Ray's own tracing does it, at the same two places. What a worker is sent imports mlspan if it is there, and
runs the function as it is if not. Functions that Ray has exported before, and Ray's client, are left alone.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, Final

from ..._guard import guard
from .._carry import capture
from .._hook import Hook
from ._seams import replacing

_ARGUMENT: Final = "_mlspan"


def _injecting(fn: Any) -> Any:
    """Around Ray's ``_inject_tracing_into_function``."""

    @functools.wraps(fn)
    def inject(function: Any) -> Any:
        function = fn(function)
        with guard("preparing a remote function"):
            return _carrying(function)
        return function

    return inject


def _injecting_class(fn: Any) -> Any:
    """Around Ray's ``_inject_tracing_into_class``."""

    @functools.wraps(fn)
    def inject(cls: Any) -> Any:
        result = fn(cls)
        with guard("preparing an actor"):
            for name, method in inspect.getmembers(cls, inspect.isfunction):
                bare = isinstance(inspect.getattr_static(cls, name), staticmethod) or name == "__del__"
                if not bare and not inspect.isgeneratorfunction(method) and not inspect.isasyncgenfunction(method):
                    setattr(cls, name, _carrying(method))
        return result

    return inject


def _carrying(function: Any) -> Any:
    """*function* with our argument. Pickled by value, so the worker needs nothing of ours: it imports what it can."""
    signature = inspect.signature(function)
    if _ARGUMENT in signature.parameters:
        return function
    around = _around(function)
    functools.update_wrapper(around, function)
    ours = inspect.Parameter(_ARGUMENT, inspect.Parameter.KEYWORD_ONLY, default=None)
    named = list(signature.parameters.values())
    at = next((i for i, one in enumerate(named) if one.kind is inspect.Parameter.VAR_KEYWORD), len(named))
    said = signature.replace(parameters=[*named[:at], ours, *named[at:]])
    inspect.unwrap(function).__signature__ = said  # where Ray looks for it
    around.__signature__ = said
    return around


def _around(function: Any) -> Any:
    if inspect.iscoroutinefunction(function):

        async def call_async(*args: Any, _mlspan: Any = None, **kwargs: Any) -> Any:
            try:
                from mlspan.integrations._carry import restored
            except ImportError:
                return await function(*args, **kwargs)
            with restored(_mlspan, wait=False):
                return await function(*args, **kwargs)

        return call_async
    if inspect.isgeneratorfunction(function):

        def generate(*args: Any, _mlspan: Any = None, **kwargs: Any) -> Any:
            try:
                from mlspan.integrations._carry import restored
            except ImportError:
                yield from function(*args, **kwargs)
                return
            with restored(_mlspan):
                yield from function(*args, **kwargs)

        return generate

    def call(*args: Any, _mlspan: Any = None, **kwargs: Any) -> Any:
        try:
            from mlspan.integrations._carry import restored
        except ImportError:
            return function(*args, **kwargs)
        with restored(_mlspan):
            return function(*args, **kwargs)

    return call


def _told(kwargs: Any) -> Any:
    """The keyword arguments of a call, with ours."""
    with guard("calling a remote function"):
        from ray._private.client_mode_hook import client_mode_should_convert

        if not client_mode_should_convert() and (carried := capture()) is not None:
            return {**(kwargs or {}), _ARGUMENT: carried}
    return kwargs


def _takes(parameters: Any) -> bool:
    return any(parameter.name == _ARGUMENT for parameter in parameters or ())


def _calling(fn: Any) -> Any:
    @functools.wraps(fn)
    def remote(self: Any, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        fresh = self._function_signature is None and not self._is_cross_language
        if fresh or _takes(self._function_signature):
            kwargs = _told(kwargs)
        return fn(self, args, kwargs, *rest, **options)

    return remote


def _creating(fn: Any) -> Any:
    @functools.wraps(fn)
    def remote(self: Any, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        init = self.__ray_metadata__.method_meta.signatures.get("__init__")
        return fn(self, args, _told(kwargs) if _takes(init) else kwargs, *rest, **options)

    return remote


def _calling_method(fn: Any) -> Any:
    @functools.wraps(fn)
    def call(self: Any, method_name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        known = self._ray_method_signatures.get(method_name)
        return fn(self, method_name, args, _told(kwargs) if _takes(known) else kwargs, *rest, **options)

    return call


HOOK: Final = Hook(
    "ray>=2.60,<3",
    "ray",
    replacing(
        {
            "ray.remote_function:_inject_tracing_into_function": _injecting,
            "ray.remote_function:RemoteFunction._remote": _calling,
            "ray.actor:_inject_tracing_into_class": _injecting_class,
            "ray.actor:ActorClass._remote": _creating,
            "ray.actor:ActorHandle._actor_method_call": _calling_method,
        }
    ),
)
autolog = HOOK.autolog
