"""What is wrong with a file, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tidegate_protocols.errors import BadInput

Path: TypeAlias = tuple[str | int, ...]  # of a key, in the file


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the file: the key's path in it and what about it."""

    path: Path
    what: str
    hint: str = ""


class BadConfig(BadInput):
    """The configuration cannot be used. `problems` are all of them, a sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def sentence(problem: Problem, name: str, line: int | None) -> str:
    place = name if line is None else f"{name}, line {line}"
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{place}: {key_text(problem.path)}: {problem.what}{hint}"


def key_text(path: Path) -> str:
    """A path as people write it: ``source[1].subscribe[0].filter``. Elements are counted from 0."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"
