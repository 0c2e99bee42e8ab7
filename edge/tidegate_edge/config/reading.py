"""From a file to a `Config`, or to everything that is wrong with it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from ..toml_lines import key_lines, line_of
from .problems import BadConfig, Problem, sentence
from .rules import check_whole
from .shapes import check
from .tables import Config


def load(path: Path) -> Config:
    """Read and check a file. Raises BadConfig."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise BadConfig([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise BadConfig([f"{path}: is not UTF-8: byte {error.start}"]) from None
    return parse(text, str(path))


def parse(text: str, name: str = "config") -> Config:
    """Check a TOML text; `name` stands in the messages. Raises BadConfig."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig([f"{name}: is not TOML: {error}"]) from None
    problems: list[Problem] = []
    check(document, Config, (), problems)
    config = None
    if not problems:
        config = msgspec.convert(document, Config)
        check_whole(config, problems)
    if config is None or problems:
        lines = key_lines(text)
        found = sorted(((line_of(lines, problem.path), problem) for problem in problems), key=lambda each: each[0] or 0)
        raise BadConfig([sentence(problem, name, line) for line, problem in found])
    return config
