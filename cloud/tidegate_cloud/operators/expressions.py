"""Conditions over the channels of a scan, as people write them: ``coolant_temp > 95 and speed < 2 for 30s``.

Python's grammar, of which only numbers, channels (also dotted ones), ``+ - * /``, comparisons, ``and or not``, ``abs``,
``min`` and ``max`` are allowed; nothing is ever executed as Python. A channel alone is true when it is not zero.

Missing values are carried through as in SQL: what a comparison with one yields is neither true nor false, and its
negation neither. A condition that is not true is taken as false.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from tidegate_protocols.errors import BadInput

LENGTH_MAX = 1000  # characters
PARTS_MAX = 200
FOR_MAX_US = 7 * 86_400_000_000
ALLOWED = "channels, numbers, + - * /, < <= > >= == !=, and, or, not, abs, min, max, and at the end: for 30s"
_FOR = re.compile(r"\s+for\s+(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)\s*$")
_FOR_WORD = re.compile(r"\s(for)\b")
_UNIT_US = {"ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_ARITHMETIC: dict[type, Callable[..., npt.NDArray[np.float64]]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide,
}  # fmt: skip
_COMPARE: dict[type, Callable[..., npt.NDArray[np.bool_]]] = {
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
    ast.Eq: np.equal, ast.NotEq: np.not_equal,
}  # fmt: skip
_PAIRWISE: dict[str, Callable[..., npt.NDArray[np.float64]]] = {"min": np.minimum, "max": np.maximum}

Numbers = npt.NDArray[np.float64]
Columns = Mapping[str, Numbers]
Truth = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]  # where it is true, where it is false


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition that was checked. `channels`: those it names; `for_us`: how long it must hold, microseconds."""

    channels: frozenset[str]
    for_us: int
    _tree: ast.expr

    def true(self, columns: Columns) -> npt.NDArray[np.bool_]:
        """bool [n]: the scans in which it is true, `for` left aside. `columns`: float64 [n] per channel, NaN = none."""
        with np.errstate(all="ignore"):
            return _truth(self._tree, columns)[0]


@lru_cache(maxsize=4096)
def parse_expression(text: str) -> Expression:
    """Read a condition. Raises BadInput that names the column (from 1) of what is wrong, and what is allowed."""
    if len(text) > LENGTH_MAX:
        raise BadInput(f"{len(text)} characters", where="expression", hint=f"at most {LENGTH_MAX} are allowed")
    body, for_us = text, 0
    if found := _FOR.search(text):
        body, for_us = text[: found.start()], round(float(found[1]) * _UNIT_US[found[2]])
        if for_us > FOR_MAX_US:
            raise _bad(found.start(1), f"for {found[1]}{found[2]} is too long", "at most 7 d")
    elif word := _FOR_WORD.search(text):
        raise _bad(word.start(1), "no duration after 'for'", "for 30s at the end; units are ms, s, min, h, d")
    # Blanks in front would be an indentation; parentheses keep columns and let a condition go over several lines.
    try:
        # Alone as well, or "a > 1) or (b > 1" would pass.
        ast.parse(body.replace("\n", " ").strip(), mode="eval")
        tree = ast.parse("(" + body.replace("\n", " ") + ")", mode="eval").body
    except SyntaxError as error:
        # At the end of the text Python names no column, or one of the next line.
        column = error.offset - 1 if error.offset and error.lineno == 1 else len(body.strip())
        raise _bad(column + len(body) - len(body.lstrip()), error.msg) from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise BadInput(f"cannot be read: {error}", where="expression", hint=ALLOWED) from None
    parts = sum(1 for _ in ast.walk(tree))
    if parts > PARTS_MAX:
        raise BadInput(f"{parts} parts", where="expression", hint=f"at most {PARTS_MAX} are allowed")
    channels: set[str] = set()
    _check_truth(tree, channels)
    if not channels:
        raise BadInput("names no channel", where="expression", hint=ALLOWED)
    return Expression(frozenset(channels), for_us, tree)


def _bad(column: int, what: str, hint: str = ALLOWED) -> BadInput:
    return BadInput(what, where=f"expression, column {column + 1}", hint=hint)


def _refuse(node: ast.expr, what: str) -> BadInput:
    return _bad(node.col_offset - 1, what)


def _channel(node: ast.expr) -> str | None:
    """The name of a channel: a name, or names with dots between them."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (front := _channel(node.value)) is not None:
        return f"{front}.{node.attr}"
    return None


def _check_truth(node: ast.expr, channels: set[str]) -> None:
    match node:
        case ast.BoolOp():
            for part in node.values:
                _check_truth(part, channels)
        case ast.UnaryOp(op=ast.Not()):
            _check_truth(node.operand, channels)
        case ast.Compare():
            if not all(type(op) in _COMPARE for op in node.ops):
                raise _refuse(node, "a comparison that is not allowed")
            for part in (node.left, *node.comparators):
                _check_number(part, channels)
        case _ if (name := _channel(node)) is not None:
            channels.add(name)
        case _:
            raise _refuse(node, f"{ast.unparse(node)[:60]!r} is not a condition")


def _check_number(node: ast.expr, channels: set[str]) -> None:
    match node:
        case ast.Constant(value=bool()):
            raise _refuse(node, f"{ast.unparse(node)} is not a number")
        case ast.Constant(value=int() | float() as value):
            if abs(value) > 1e300 or not math.isfinite(value):
                raise _refuse(node, "the number is too large")
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            _check_number(node.left, channels)
            _check_number(node.right, channels)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            _check_number(node.operand, channels)
        case ast.Call(func=ast.Name(id="abs"), args=[part], keywords=[]):
            _check_number(part, channels)
        case ast.Call(func=ast.Name(id="min" | "max"), args=[_, _, *_], keywords=[]):
            for part in node.args:
                _check_number(part, channels)
        case _ if (name := _channel(node)) is not None:
            channels.add(name)
        case _:
            raise _refuse(node, f"{ast.unparse(node)[:60]!r} is not allowed here")


def _truth(node: ast.expr, columns: Columns) -> Truth:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        true, false = _truth(node.operand, columns)
        return false, true
    if isinstance(node, ast.BoolOp):
        parts = [_truth(part, columns) for part in node.values]
        return _all(parts) if isinstance(node.op, ast.And) else _all([(f, t) for t, f in parts])[::-1]
    if isinstance(node, ast.Compare):
        sides = [_number(part, columns) for part in (node.left, *node.comparators)]
        return _all([
            _known(_COMPARE[type(op)](a, b), np.isnan(a) | np.isnan(b))
            for op, a, b in zip(node.ops, sides, sides[1:], strict=False)
        ])  # fmt: skip
    value = _number(node, columns)
    return _known(value != 0, np.isnan(value))


def _known(true: npt.NDArray[np.bool_], missing: npt.NDArray[np.bool_]) -> Truth:
    return true & ~missing, ~true & ~missing


def _all(parts: list[Truth]) -> Truth:
    true, false = parts[0]
    for t, f in parts[1:]:
        true, false = true & t, false | f
    return true, false


def _number(node: ast.expr, columns: Columns) -> Numbers:
    if isinstance(node, ast.Constant):
        return np.full(len(next(iter(columns.values()))), float(node.value))  # type: ignore[arg-type]
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](_number(node.left, columns), _number(node.right, columns))
    if isinstance(node, ast.UnaryOp):
        value = _number(node.operand, columns)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        values = [_number(part, columns) for part in node.args]
        if node.func.id == "abs":
            return np.abs(values[0])
        out = values[0]
        for value in values[1:]:
            out = _PAIRWISE[node.func.id](out, value)
        return out
    name = _channel(node)
    assert name is not None  # parse_expression let nothing else through
    return columns[name]
