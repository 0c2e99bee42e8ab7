"""How often somebody may be wrong about a password."""

from __future__ import annotations

from collections import OrderedDict

WINDOW_S = 300.0
PER_ADDRESS = 10
PER_NAME = 50
_KEPT = 10_000


class Failures:
    """Failed log-ins of the last five minutes, by address and by name. Times: monotonic seconds, handed in.

    A name allows more than an address: whoever knows a name must not be able to lock its owner out from one place.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[tuple[str, str], list[float]] = OrderedDict()

    def wait_s(self, address: str, name: str, now_s: float) -> float:
        """How long until the next try is heard; 0 when now."""
        return max(
            self._wait(("address", address), PER_ADDRESS, now_s), self._wait(("name", name), PER_NAME, now_s)
        )  # fmt: skip

    def failed(self, address: str, name: str, now_s: float) -> None:
        """Count a try that failed."""
        for key in (("address", address), ("name", name)):
            times = self._of.setdefault(key, [])
            times.append(now_s)
            del times[:-PER_NAME]
            self._of.move_to_end(key)
        while len(self._of) > _KEPT:
            self._of.popitem(last=False)

    def _wait(self, key: tuple[str, str], most: int, now_s: float) -> float:
        recent = [at for at in self._of.get(key, ()) if now_s - at < WINDOW_S]
        return WINDOW_S - (now_s - recent[-most]) if len(recent) >= most else 0.0
