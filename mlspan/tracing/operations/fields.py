"""Declaration of records: fields as in a dataclass, each with the span attribute that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # Python 3.10 lacks it, and only type checkers need it

    def dataclass_transform(**_: object) -> Callable[[type], type]:
        return lambda cls: cls


When = Literal["start", "end", "content"]


class Attr(NamedTuple):
    """A field that becomes a span attribute."""

    name: str
    when: When
    default: Any


def attr(name: str, when: When = "end", default: Any = None) -> Any:
    """Declare a field that becomes the attribute *name*.

    Args:
        name: the attribute.
        when: ``start`` if the value is known when the span starts, so that samplers see it; ``end`` if it is written
            when the span ends; ``content`` if it is written at the end as one JSON string, under the content policy.
        default: the value if nobody sets it.
    """
    return Attr(name, when, default)


class _New:
    """A descriptor that makes a field's value when the field is first read and nobody has set it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, record: Any, _: type | None = None) -> Any:
        if record is None:
            return self
        made = vars(record)[self._name] = self._make()
        return made


def new(make: Callable[[], Any]) -> Any:
    """Declare a field whose value is made by *make* when it is first read, unless somebody has set it."""
    return _New(make)


@dataclass_transform(kw_only_default=True)
class Fields:
    """The base of all records. It is written and read like a dataclass.

    A field that nobody has set takes neither time nor memory: most calls set a quarter of them.
    """

    attrs: ClassVar[Mapping[str, Attr]] = {}  # by field name
    _starts: ClassVar[tuple[tuple[str, str], ...]] = ()  # (field, attribute) of each attribute written at the start
    _given: ClassVar[Mapping[str, Any]] = {}  # defaults that become attributes, set on every record

    def __init__(self, **known: Any) -> None:
        self.__dict__ = {**self._given, **known}

    def __init_subclass__(cls) -> None:
        attrs = dict(cls.attrs)
        for field, value in list(vars(cls).items()):
            if isinstance(value, Attr):
                attrs[field] = value
                setattr(cls, field, value.default)
        cls.attrs = attrs
        cls._starts = tuple((field, one.name) for field, one in attrs.items() if one.when == "start")
        cls._given = {field: one.default for field, one in attrs.items() if one.default is not None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
