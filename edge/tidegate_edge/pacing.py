"""How much may be on its way to Kafka at a time.

Live, records flow as long as no more than `window` bytes are unacknowledged. Behind, the backlog goes in rounds: a
window of it is sent, and when all of it is acknowledged after T seconds, the link is left to others for as long as the
configured share says, so that of any time the backlog has `share`. What is new never waits for longer than a round.
The pause is shortened where the backlog would go slower than twice what comes in.

The window grows while a round takes little longer than the quickest one, and shrinks where it queues on the way
(a delay-based control, as TCP Vegas: Brakmo and Peterson, 1995).
"""

from __future__ import annotations

_WINDOW_MIN = 8 << 10
_WINDOW_MAX = 1 << 20
_QUEUEING_S = 0.25  # how much longer than the quickest round one may take
_RATE_S = 10.0  # over which what comes in is averaged
_LEAD = 2.0  # the backlog goes at least so many times as fast as what comes in


class Pace:
    """`share` of the link is for the backlog, 0 to 1. Times are of a monotonic clock, in seconds."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.window = 64 << 10
        self.arriving = 0.0  # scans a second
        self._seen: tuple[float, int] | None = None
        self.begin()

    def begin(self) -> None:
        """A new connection: what was on its way is not any more."""
        self._quickest = float("inf")
        self._began: float | None = None
        self._bytes = 0
        self._scans = 0
        self._idle_until = 0.0

    def arrived(self, accepted: int, now: float) -> None:
        """So many scans were ever accepted."""
        if self._seen is None:
            self._seen = now, accepted
        elif now - self._seen[0] >= 1.0:
            span, scans = now - self._seen[0], accepted - self._seen[1]
            weight = min(1.0, span / _RATE_S)
            self.arriving += (scans / span - self.arriving) * weight
            self._seen = now, accepted

    def may_send(self, now: float, in_flight: int, *, behind: bool) -> bool:
        """Whether a frame of the in-order lane may go out, `in_flight` bytes of it being unacknowledged."""
        if not behind:
            self._began, self._bytes, self._scans = None, 0, 0
            return in_flight < self.window
        if now < self._idle_until:
            return False
        if self._began is None:
            return True
        if self._bytes < self.window:
            return True
        if in_flight:
            return False
        self._end_round(now)
        return now >= self._idle_until

    def wait(self, now: float) -> float:
        """Seconds until the pause between rounds is over."""
        return max(0.0, self._idle_until - now)

    def sent(self, size: int, scans: int, now: float) -> None:
        """A frame of the in-order lane went out."""
        if self._began is None:
            self._began = now
        self._bytes += size
        self._scans += scans

    def delivered(self, took_s: float) -> None:
        """A frame was acknowledged so long after it was sent; steers the window while live."""
        self._quickest = min(self._quickest, took_s)
        if took_s > 2 * self._quickest + 2 * _QUEUEING_S:
            self.window = max(_WINDOW_MIN, self.window * 7 // 8)
        elif took_s <= 2 * self._quickest + _QUEUEING_S:
            self.window = min(_WINDOW_MAX, self.window + 4096)

    def _end_round(self, now: float) -> None:
        assert self._began is not None
        took = max(1e-4, now - self._began)
        if took > 2 * self._quickest + 2 * _QUEUEING_S:
            self.window = max(_WINDOW_MIN, self.window // 2)
        elif took <= 2 * self._quickest + _QUEUEING_S:
            self.window = min(_WINDOW_MAX, self.window * 2)
        pause = took * (1 - self.share) / self.share
        if self.arriving > 0:
            pause = min(pause, max(0.0, self._scans / (_LEAD * self.arriving) - took))
        self._idle_until = now + pause
        self._began, self._bytes, self._scans = None, 0, 0
