"""Sections of a config: frozen dataclasses that check themselves, addressed by dotted fields.

A section's fields are values or other sections, so `optimizer.learning_rate` names one value of a
tree. Errors name the field in this way, as `--config.KEY=VALUE` does.
"""

import ast
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self, TypeGuard

from pipelines.command_line import meant

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_INSIDE = {"[": float.__ge__, "(": float.__gt__, "]": float.__le__, ")": float.__lt__}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a config, or all of it.

    Raises:
        ValueError: a value is not of its annotated type, or not in the range of `ranged` or among
            the values of `choice`; subclasses add relations. Names the field.
    """

    def __post_init__(self) -> None:
        for name, kind in _kinds(type(self)).items():
            object.__setattr__(self, name, _typed(name, getattr(self, name), kind))
        for field in dataclasses.fields(self):
            if "interval" in field.metadata:
                self.require_within(field.metadata["interval"], field.name)
            elif "known" in field.metadata:
                self.require_known(field.name, field.metadata["known"])

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, also of its JSON; refuses missing and unknown fields."""
        kinds = _kinds(cls)
        for name in [*content, *kinds]:
            if name not in kinds or name not in content:
                raise ValueError(f"{name}: is {'missing' if name in kinds else 'unknown'}")
        sections = {
            name: _name_errors(name, functools.partial(kind.from_dict, content[name]))
            for name, kind in kinds.items()
            if _is_section(kind)
        }
        return cls(**{**content, **sections})

    def to_dict(self) -> dict[str, Any]:
        """All fields, sections as dicts."""
        return dataclasses.asdict(self)

    def value(self, field: str) -> Any:
        """The value of a dotted field."""
        return functools.reduce(getattr, field.split("."), self)

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """The same config with other values of dotted fields; all checks run again."""
        own, nested = {}, {}
        for field, value in values.items():
            kind_of(type(self), field)
            head, _, rest = field.partition(".")
            if rest:
                nested.setdefault(head, {})[rest] = value
            else:
                own[head] = value
        for head, more in nested.items():
            section: Section = getattr(self, head)
            own[head] = _name_errors(head, functools.partial(section.with_values, more))
        return dataclasses.replace(self, **own)

    def require(self, holds: bool, field: str, wanted: str) -> None:
        """Refuses the value of a field, which must be `wanted`, unless a condition holds."""
        if not holds:
            raise ValueError(f"{field}={self.value(field)!r}: must be {wanted}")

    def require_within(self, interval: str, field: str) -> None:
        """Requires an interval, such as `[0, 1)`."""
        low, high = map(float, interval[1:-1].split(","))
        above, below = _INSIDE[interval[0]], _INSIDE[interval[-1]]
        value = float(self.value(field))
        self.require(above(value, low) and below(value, high), field, f"in {interval}")

    def require_known(self, field: str, known: Collection[str]) -> None:
        """Requires one of several values."""
        value = self.value(field)
        self.require(value in known, field, f"one of {', '.join(known)}{meant(value, known)}")

    def require_multiple(self, field: str, of: str) -> None:
        """Requires a multiple of another field's value."""
        whole, part = self.value(field), self.value(of)
        self.require(whole % part == 0, field, f"a multiple of {of}, which is {part}")


def ranged(default: Any, interval: str) -> Any:
    """A field with a default, whose values lie in an interval, such as `[0, 1)`."""
    return dataclasses.field(default=default, metadata={"interval": interval})


def choice(default: str, known: Collection[str]) -> Any:
    """A field with a default, whose values are known."""
    return dataclasses.field(default=default, metadata={"known": known})


def flatten(config: Section | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config, or its JSON, as a flat dict of dotted fields; tuples become lists, as in JSON."""
    flat = {}
    items = vars(config) if isinstance(config, Section) else config
    for name, value in items.items():
        if isinstance(value, Section | Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def kind_of(config: type[Section], field: str) -> Any:
    """The type of a dotted field; refuses a field that the config does not have."""
    kind: Any = config
    for name in field.split("."):
        kind = _kinds(kind).get(name) if _is_section(kind) else None
    if kind is None:
        raise ValueError(f"{field}: there is no such field{meant(field, fields_of(config))}")
    return kind


def fields_of(config: type[Section]) -> list[str]:
    """All dotted fields that hold values."""
    fields = []
    for name, kind in _kinds(config).items():
        fields += [f"{name}.{field}" for field in fields_of(kind)] if _is_section(kind) else [name]
    return fields


def parsed(field: str, text: str, kind: Any) -> Any:
    """The value of a type that a text gives a field: `True`, `3e-4`, `(0.8, 1.0)`, `0.8,1.0`."""
    if kind is str:
        return text
    try:
        value = _BOOLEANS.get(text.lower(), text) if kind is bool else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(kind, types.GenericAlias) and not isinstance(value, tuple | list):
        value = (value,)
    return _typed(field, value, kind)


@functools.cache
def _kinds(config: type[Section]) -> dict[str, Any]:
    hints = typing.get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config)}


def _typed(name: str, value: Any, kind: Any) -> Any:
    """A value as its type: an int may stand for a float, a list for a tuple."""
    if isinstance(kind, types.GenericAlias):
        if isinstance(value, list | tuple):
            kinds = typing.get_args(kind)
            many = kinds[:1] * len(value) if kinds[-1] is ... else kinds
            if len(many) == len(value):
                return tuple(_typed(name, *pair) for pair in zip(value, many, strict=True))
    elif kind is float and type(value) in (int, float):
        if not math.isfinite(value):
            raise ValueError(f"{name}={value}: must be finite")
        return float(value)
    elif type(value) is kind or _is_section(kind) and isinstance(value, kind):
        return value
    wanted = str(kind) if isinstance(kind, types.GenericAlias) else kind.__name__
    raise ValueError(f"{name}={value!r}: must be of type {wanted}")


def _name_errors(section: str, build: Callable[[], Section]) -> Section:
    """Builds a section; errors name its fields by their dotted names."""
    try:
        return build()
    except ValueError as error:
        raise ValueError(f"{section}.{error}") from None
