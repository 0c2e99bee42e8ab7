"""Waiting for a condition, with a deadline. Tests never sleep for a time that is merely hoped to be long enough."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.02
# Time-outs are those of a quiet machine; a loaded one gets so many times as long. What is true at last never waits.
_PATIENCE = 4.0


def until(condition: Callable[[], T], timeout: float = 30.0, what: str = "") -> T:
    """Poll `condition` until it returns something true, and return that.

    Fails the test when it is not after `timeout` seconds, those of a quiet machine.
    """
    timeout *= _PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or getattr(condition, '__name__', condition)}")
        time.sleep(_POLL_S)


async def until_async(
    condition: Callable[[], T | Awaitable[T]],
    timeout: float = 30.0,  # noqa: ASYNC109
    what: str = "",
) -> T:
    """`until` for a running event loop; the condition may be a coroutine function."""
    timeout *= _PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or getattr(condition, '__name__', condition)}")
        await asyncio.sleep(_POLL_S)
