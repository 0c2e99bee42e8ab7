"""On which line of a TOML text a key stands. `tomllib` gives values without their places."""

from __future__ import annotations

import re
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_HEADER = re.compile(r"\s*\[(\[)?\s*([^\[\]]+?)\s*\]?\]\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")
# What opens or closes a value that goes on over lines: strings are skipped whole, brackets are counted.
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*|[\[\]{}]')


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every table and key of a valid TOML text; elements of arrays of tables by their number."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        rest = line
        if not depth and not quote:
            header = _HEADER.match(line)
            if header:
                table = _table(_parts(header[2]), bool(header[1]), counts)
                lines.setdefault(table, number)
                continue
            key = _KEY.match(line)
            if key:
                _note(lines, table, _parts(key[1]), number)
                rest = line[key.end() :]
                for inner in re.finditer(r"[{,]\s*([A-Za-z0-9_-]+)\s*=", rest):
                    _note(lines, table, [*_parts(key[1]), inner[1]], number)
        depth, quote = _skip(rest, depth, quote)
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of `path`, or of what encloses it most closely; None for the whole text."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def _parts(text: str) -> list[str]:
    return [a or b or c for a, b, c in _PART.findall(text)]


def _note(lines: dict[Path, int], table: Path, parts: list[str], number: int) -> None:
    for i in range(1, len(parts) + 1):
        lines.setdefault((*table, *parts[:i]), number)


def _table(parts: list[str], element: bool, counts: dict[Path, int]) -> Path:
    """The path that a header opens: where it goes through an array of tables, that array's last element is meant."""
    path: Path = ()
    for i, part in enumerate(parts):
        path = (*path, part)
        if i == len(parts) - 1 and element:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _skip(rest: str, depth: int, quote: str) -> tuple[int, str]:
    at = 0
    while at < len(rest):
        if quote:
            end = rest.find(quote, at)
            if end < 0:
                return depth, quote
            at, quote = end + 3, ""
            continue
        token = _TOKEN.search(rest, at)
        if token is None:
            break
        at = token.end()
        if token[0] in ('"""', "'''"):
            quote = token[0]
        elif token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
    return depth, quote
