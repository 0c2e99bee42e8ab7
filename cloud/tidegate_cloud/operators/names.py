"""Numbers for names, so that kernels can compare fences, rules and channels without touching text.

A number is good for this process only: what leaves it (state rows, events) carries the name. Names are never given
back; there are as many as fences, rules and channels were ever seen by the process.
"""

from __future__ import annotations

_numbers: dict[str, int] = {}
_names: list[str] = []


def number_of(name: str) -> int:
    """The number of `name`: the same for every call in this process, from 0 up."""
    number = _numbers.get(name)
    if number is None:
        number = _numbers[name] = len(_names)
        _names.append(name)
    return number


def name_of(number: int) -> str:
    """The name with this number."""
    return _names[number]


def count() -> int:
    """How many names have a number: every number is below it."""
    return len(_names)
