"""The agent's own times: exact once the clock is synchronised, and until then as time since the boot.

A scan without a time of its own gets the agent's. While the clock is not synchronised, what is stored is the time since
the boot, which nobody sets, and the boot's number. Once something that knows the time has set the clock, it is known
when the boot began, and the scans leave with their true times. They are held for that, at most `hold_s` from the start
of the agent; then, and where a boot ended without ever knowing the time, they leave with the best guess and the flag
that says so.

Kept in the spool's `state`: ``boot/N``, MessagePack (boot id, when it began in microseconds since 1970, or None; the
guess of that), and ``time/seen``, the last time that was known for certain: a guess is never before it.

What remains is the drift of the machine's oscillator over the time that scans are held: some 50 ms in a quarter of an
hour at 50 ppm.
"""

from __future__ import annotations

import logging

import msgspec

from .clock import Clock, is_set
from .spool import Chunk, Spool
from .spool.rows import BOOT_SHIFT, TIME_ESTIMATED, TIME_FROM_AGENT, TIME_SINCE_BOOT

log = logging.getLogger(__name__)

HOLD_S = 60.0
_ASK_S = 0.25  # how often the clock is asked whether it is synchronised
_SEEN_S = 60.0  # how often the time that is certain is kept
_STEP_US = 500_000  # a change of the wall clock against the boot's that is worth a word


class Boot(msgspec.Struct, array_like=True):
    """A boot of the machine: when it began, if that is known, and what is believed if not."""

    id: str
    began_us: int | None = None
    guess_us: int = 0


class Times:
    """Stamps scans when they come, and says when they leave what their times are."""

    def __init__(self, spool: Spool, clock: Clock, hold_s: float = HOLD_S) -> None:
        self._spool = spool
        self._clock = clock
        self._until = clock.monotonic() + hold_s
        self._asked = float("-inf")
        self._kept = float("-inf")
        self._sure = False
        self._offset_us = 0
        self._boots = {
            int(key.removeprefix("boot/")): msgspec.msgpack.decode(value, type=Boot)
            for key, value in spool.state.items()
            if key.startswith("boot/")
        }
        self._number = next((number for number, boot in self._boots.items() if boot.id == clock.boot_id), None)
        if self._number is not None and self._boots[self._number].began_us is not None:
            self._sure = True  # in this boot, before this start of the agent
            self._offset_us = self._offset()
        self.is_sure()

    @property
    def status(self) -> str:
        """How the clock is, in words."""
        if self.is_sure():
            return "synchronised"
        return "not synchronised, scans wait" if self._holds() else "not synchronised, times are estimates"

    def is_sure(self) -> bool:
        """Whether the wall clock was synchronised in this boot."""
        now = self._clock.monotonic()
        if now - self._asked >= _ASK_S:
            self._asked = now
            if not self._sure and self._clock.is_synchronised():
                self._become_sure()
            elif self._sure:
                self._watch()
            if self._sure and now - self._kept >= _SEEN_S:
                self._kept = now
                seen = self._clock.wall_us()
                self._spool.keep("time/seen", lambda: b"%d" % seen)
        return self._sure

    def stamp(self) -> tuple[int, int]:
        """(time in µs, flags) of a scan that came just now without a time of its own."""
        if self.is_sure():
            return self._clock.wall_us(), TIME_FROM_AGENT
        if self._number is None:
            self._number = self._begin_boot()
        return self._clock.boot_us(), TIME_FROM_AGENT | TIME_SINCE_BOOT | self._number << BOOT_SHIFT

    def resolve(self, chunk: Chunk) -> tuple[int, int] | None:
        """What is to be added to a chunk's times and said of them; None while that may become known."""
        flags = chunk.flags
        if not flags & TIME_SINCE_BOOT:
            return 0, flags & (TIME_FROM_AGENT | TIME_ESTIMATED)
        number = flags >> BOOT_SHIFT
        if number == self._number:
            self.is_sure()
        boot = self._boots.get(number)
        if boot is None:  # its row was damaged
            return self._guess(), TIME_FROM_AGENT | TIME_ESTIMATED
        if boot.began_us is not None:
            return boot.began_us, TIME_FROM_AGENT
        if number == self._number and self._holds():
            return None
        return boot.guess_us, TIME_FROM_AGENT | TIME_ESTIMATED

    def _holds(self) -> bool:
        return self._clock.monotonic() < self._until

    def _offset(self) -> int:
        """Wall time less time since the boot, µs; read again when the machine was busy in between."""
        best = (1 << 62, 0)
        for _ in range(5):
            before = self._clock.boot_us()
            wall = self._clock.wall_us()
            after = self._clock.boot_us()
            best = min(best, (after - before, wall - (before + after) // 2))
        return best[1]

    def _become_sure(self) -> None:
        self._sure = True
        self._offset_us = self._offset()
        if self._number is not None:
            boot = self._boots[self._number]
            log.info("the clock is synchronised; it was wrong by %.3f s", (self._offset_us - boot.guess_us) / 1e6)
            boot.began_us = self._offset_us
            self._keep(self._number, boot)

    def _watch(self) -> None:
        offset = self._offset()
        if abs(offset - self._offset_us) >= _STEP_US:
            log.warning("the clock was set by %+.3f s", (offset - self._offset_us) / 1e6)
        self._offset_us = offset

    def _begin_boot(self) -> int:
        number = max(self._boots, default=0) + 1
        boot = self._boots[number] = Boot(self._clock.boot_id, None, self._guess())
        self._keep(number, boot)
        return number

    def _guess(self) -> int:
        """When this boot began, as far as can be told: by a clock that is set, or else not before what is known."""
        offset = self._offset()
        seen = int(self._spool.state.get("time/seen", b"0"))
        if is_set(self._clock.wall_us()):
            return max(offset, seen - self._clock.boot_us())
        return seen - self._clock.boot_us() if seen else offset

    def _keep(self, number: int, boot: Boot) -> None:
        self._spool.keep(f"boot/{number}", lambda: msgspec.msgpack.encode(boot))
