"""The agent's log: for people or as a JSON object per line, and never flooded by one message.

Of messages of one kind (logger and template) `BURST` a minute are written; those that follow in that minute are
counted, and the count is told with the next one that is written.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable

BURST = 5
_WINDOW_S = 60.0
_KINDS_MAX = 1000


class RateLimit(logging.Filter):
    """Lets `BURST` messages of a kind through per minute. Errors of a program (with a traceback) pass always."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._kinds: dict[tuple[str, str], list[float]] = {}  # begin of the minute, written in it, left out

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            return True
        now = self._monotonic()
        if len(self._kinds) >= _KINDS_MAX:
            self._kinds.clear()
        kind = self._kinds.setdefault((record.name, str(record.msg)[:120]), [now, 0, 0])
        if now - kind[0] >= _WINDOW_S:
            left_out = int(kind[2])
            kind[:] = [now, 0, 0]
            if left_out:
                record.msg, record.args = f"{record.getMessage()} ({left_out} more like this were left out)", None
        if kind[1] >= BURST:
            kind[2] += 1
            return False
        kind[1] += 1
        return True


class JsonFormatter(logging.Formatter):
    """One object a line: ts (RFC 3339), level, logger, message, and error with the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found = {
            "ts": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            found["error"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=False)


def set_up(level: str, form: str) -> None:
    """Log to standard error; `form` is "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    handler.addFilter(RateLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler])
