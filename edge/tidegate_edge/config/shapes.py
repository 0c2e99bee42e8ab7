"""Whether a document has the tables, keys and kinds of values that it should have, all the way down."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Annotated, Any, Literal

import msgspec

from .problems import Path, Problem


def check(value: Any, kind: Any, path: Path, problems: list[Problem]) -> None:
    """Compare a value with the type that it should have, all the way down."""
    inner, optional = _plain(kind)
    if optional and value is None:
        return
    if typing.get_origin(inner) is list and isinstance(value, list):
        if not value and inner is not kind:
            problems.append(Problem(path, "is empty", "at least one is needed"))
        for i, item in enumerate(value):
            check(item, typing.get_args(inner)[0], (*path, i), problems)
        return
    choices = {struct.__struct_config__.tag: struct for struct in _structs(inner)}
    if choices and not isinstance(value, dict):
        problems.append(Problem(path, f"should be a table, is {value!r}"))
    elif choices:
        keys = dict(value)
        if len(choices) > 1:
            tag = keys.pop("type", None)
            if tag not in choices:
                said = "is missing" if tag is None else f"{tag!r} is not known"
                problems.append(Problem((*path, "type"), said, " or ".join(map(str, choices))))
                return
        else:
            tag = next(iter(choices))
        _check_table(keys, choices[tag], path, problems)
    elif typing.get_origin(inner) is Literal and value not in typing.get_args(inner):
        problems.append(Problem(path, f"{value!r} is not known", ", ".join(typing.get_args(inner))))
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            problems.append(Problem(path, _reworded(str(error), value)))


def _check_table(table: dict[str, Any], struct: type[msgspec.Struct], path: Path, problems: list[Problem]) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    for key in sorted(table.keys() - fields.keys()):
        close = difflib.get_close_matches(key, fields, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(fields))}"
        problems.append(Problem((*path, key), "is not a key", hint))
    for name, field in fields.items():
        if name in table:
            check(table[name], field.type, (*path, name), problems)
        elif field.required:
            problems.append(Problem((*path, name), "is missing"))


def _plain(kind: Any) -> tuple[Any, bool]:
    """A type without its annotations and without None, and whether it had None."""
    if typing.get_origin(kind) is Annotated:
        return _plain(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        members = [each for each in typing.get_args(kind) if each is not type(None)]
        if len(members) < len(typing.get_args(kind)):
            return (_plain(members[0])[0] if len(members) == 1 else kind), True
    return kind, False


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    members = typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    return [each for each in members if isinstance(each, type) and issubclass(each, msgspec.Struct)]


def _reworded(text: str, value: Any) -> str:
    return f"{text.split(' - at ')[0][0].lower()}{text.split(' - at ')[0][1:]}, is {value!r}"
