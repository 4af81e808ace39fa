"""Declaration of records: fields as in a dataclass, each with the span attribute that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # Python 3.10 lacks it, and only type checkers need it

    def dataclass_transform(**_: object) -> Callable[[type], type]:
        return lambda cls: cls


WrittenAt = Literal["start", "end", "content"]
content_attributes: Final[set[str]] = set()  # of all records: those that the content policy has redacted


class SpanAttribute(NamedTuple):
    """A field that becomes a span attribute."""

    name: str
    when: WrittenAt
    default: object


def span_attribute(name: str, when: WrittenAt = "end", default: object = None) -> Any:
    """Declare a field that becomes the attribute *name*.

    Args:
        name: the attribute.
        when: ``start`` if the value is known when the span starts, so that samplers see it; ``end`` if it is written
            when the span ends; ``content`` if it is written at the end as one JSON string, under the content policy.
        default: the value if nobody sets it.
    """
    return SpanAttribute(name, when, default)


class _LazyField:
    """A descriptor that makes a field's value when the field is first read and nobody has set it."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, record: object, _: type | None = None) -> object:
        if record is None:
            return self
        return vars(record).setdefault(self._name, self._make())  # threads that read it at once get the same


def lazy_field(make: Callable[[], object]) -> Any:
    """Declare a field whose value is made by *make* when it is first read, unless somebody has set it."""
    return _LazyField(make)


@dataclass_transform(kw_only_default=True)
class RecordFields:
    """The base of all records. It is written and read like a dataclass.

    A field that nobody has set takes neither time nor memory: most calls set a quarter of them.
    """

    attrs: ClassVar[Mapping[str, SpanAttribute]] = {}  # by field name
    # Field -> attribute, by when it is written.
    _start_names: ClassVar[Mapping[str, str]] = {}
    _content_names: ClassVar[Mapping[str, str]] = {}
    _late_names: ClassVar[Mapping[str, str]] = {}  # content, and what is written at the end
    # Returns the values of a record's fields that are written at the start, as they are now. It is no method, but in C.
    read_start_values: ClassVar[attrgetter[tuple[Any, ...]]]
    _preset_values: ClassVar[Mapping[str, object]] = {}  # defaults that become attributes, set on every record

    def __init__(self, **known: object) -> None:
        self.__dict__ = {**self._preset_values, **known}

    def __init_subclass__(cls) -> None:
        attrs = dict(cls.attrs)
        for field, value in list(vars(cls).items()):
            if isinstance(value, SpanAttribute):
                attrs[field] = value
                setattr(cls, field, value.default)
        cls.attrs = attrs
        named = {
            when: {field: one.name for field, one in attrs.items() if one.when == when}
            for when in ("start", "end", "content")
        }
        cls._start_names, cls._content_names = named["start"], named["content"]
        cls._late_names = {**named["end"], **named["content"]}
        content_attributes.update(cls._content_names.values())
        cls.read_start_values = attrgetter(*cls._start_names, "attrs", "attrs")  # of two names or more it makes a tuple
        cls._preset_values = {field: one.default for field, one in attrs.items() if one.default is not None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
