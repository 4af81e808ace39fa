"""How a record is declared: fields as a dataclass has them, each with the attribute that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # Python 3.10 has none, and only type checkers look at it

    def dataclass_transform(**_: object) -> Callable[[type], type]:
        return lambda cls: cls


When = Literal["start", "end", "content"]


class Attr(NamedTuple):
    """A field that becomes an attribute."""

    name: str
    when: When
    default: Any


def attr(name: str, when: When = "end", default: Any = None) -> Any:
    """A field that becomes attribute *name*: known at the ``start`` (samplers see it) or at the ``end``.

    ``content`` is what was said: written at the end as one JSON string, and only as far as the content policy allows.
    """
    return Attr(name, when, default)


class _New:
    """Found where a record has nothing under its name: what is made then is the record's own."""

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
    """A field that is what *make* gives, made when it is first asked for if nobody has set it."""
    return _New(make)


@dataclass_transform(kw_only_default=True)
class Fields:
    """As a dataclass to write and to read; what nobody has set takes no time and no room, as most of a call is not."""

    attrs: ClassVar[Mapping[str, Attr]] = {}  # by field
    _starts: ClassVar[tuple[tuple[str, str], ...]] = ()  # field and name of each attribute of the start
    _given: ClassVar[Mapping[str, Any]] = {}  # what is set from the first: defaults that become attributes

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
