"""All windows behind one call, and what is stored of them.

The books stay exact and only ever grow: a scan of which something is stored by itself counts as accepted, one that went
into windows or deadbands whole counts as folded; a scan that a window makes counts as received and accepted.

Layout in the spool's `state`: ``window/SOURCE\\0DEVICE\\0PLAN`` holds the open windows, ``windowed/PLAN`` what they are
of. Both are committed with the books that speak of them, so an acknowledgement never waits for a window: after a kill
the accumulators are as of the last commit, and what came later comes again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ids import check_device_id
from tidegate_protocols.scan import Value
from tidegate_protocols.schema import Schema

from ..clock import Clock
from ..config import WindowSettings
from ..spool import Spool
from . import folding
from .deadband import Deadband
from .rules import Aggregate, Plan, aggregate_of, plan_of
from .tumbling import Tumbling

log = logging.getLogger(__name__)

_OPEN = "window/"
_PLAN = "windowed/"


@dataclass(frozen=True, slots=True)
class Made:
    """A scan that windows give. `own`: it is the scan that was taken, or what is left of it, not an aggregate."""

    source: str
    device: str
    schema: Schema
    ts_us: int
    values: tuple[Value, ...]
    flags: int
    own: bool


@dataclass(slots=True, eq=False)
class _Device:
    """One device's scans of one schema from one source."""

    source: str
    device: str
    plan: Plan
    bands: list[Deadband]
    tumbling: list[Tumbling]


class Windows:
    """Use `take` for every scan, `tick` about once a second."""

    def __init__(self, rules: Sequence[WindowSettings], spool: Spool, clock: Clock) -> None:
        self._rules = list(rules)
        self._spool = spool
        self._clock = clock
        self._known: dict[tuple[str, str, bytes], _Device | None] = {}
        self._announced = {key for key in spool.state if key.startswith(_PLAN)}
        if any(rule.mode == "aggregate" for rule in rules):
            folding.prepare()

    def restore(self) -> list[Made]:
        """Take up the windows that the spool holds from an earlier start. Those that the rules no longer ask for are
        closed and returned."""
        out: list[Made] = []
        plans: dict[str, tuple[Schema, Aggregate]] = {}
        for key, data in self._spool.state.items():
            if not key.startswith(_OPEN):
                continue
            try:
                source, device, mark = key.removeprefix(_OPEN).split("\0")
                if mark not in plans:
                    plans[mark] = _read_plan(self._spool.state[_PLAN + mark])
                out += self._restore(source, device, *plans[mark], data)
            except (ValueError, KeyError, IndexError, msgspec.DecodeError) as error:
                log.error("a stored window cannot be read and is left out: %r: %s", key, error)
                self._spool.drop([key])
        return out

    def _restore(self, source: str, device: str, schema: Schema, plan: Aggregate, data: bytes) -> list[Made]:
        known = self._device(source, device, schema)
        now = self._clock.monotonic()
        for tumbling in known.tumbling if known is not None else []:
            if tumbling.plan == plan:
                tumbling.restore(data, now)
                return []
        gone = Tumbling(plan, _types(schema, plan))
        gone.restore(data, now)
        owner = _Device(source, device, Plan(schema, frozenset(), (), (plan,)), [], [gone])
        return self._closed(owner, gone, gone.close())

    def take(
        self, source: str, device: str, schema: Schema, ts_us: int, values: tuple[Value, ...], flags: int
    ) -> list[Made] | None:
        """What is to be stored for a scan; None for just itself. Raises BadInput for no device id."""
        if not self._rules:
            return None
        known = self._device(source, device, schema)
        if known is None:
            return None
        out: list[Made] = []
        kept: list[Value] = [value if i in known.plan.own else None for i, value in enumerate(values)]
        for tumbling in known.tumbling:
            now = self._clock.monotonic()
            if flags != tumbling.flags:  # times of another clock, perhaps: nothing is late by those before
                out += self._closed(known, tumbling, tumbling.close())
                tumbling.forget_time()
            mine = tuple(values[i] for i in tumbling.plan.places)
            if all(value is None for value in mine):
                continue
            if not tumbling.take(ts_us, mine, flags, now):
                for i in tumbling.plan.places:  # too late: stored by itself
                    kept[i] = values[i]
            out += self._closed(known, tumbling, tumbling.due(now))
            if len(tumbling):
                self._store(known, tumbling)
        for band, deadband in zip(known.plan.bands, known.bands, strict=True):
            if not deadband.moved(ts_us, values):
                for i in band.places:
                    kept[i] = None
        if any(value is not None for value in kept):
            out.append(Made(source, device, schema, ts_us, tuple(kept), flags, own=True))
        return out

    def tick(self) -> list[Made]:
        """Close the windows that are due by the clock, of devices that have fallen silent too."""
        out: list[Made] = []
        now = self._clock.monotonic()
        for known in self._known.values():
            for tumbling in known.tumbling if known is not None else []:
                if len(tumbling):
                    out += self._closed(known, tumbling, tumbling.due(now))
        return out

    def close(self) -> list[Made]:
        """Close every window: other rules come."""
        return [
            made
            for known in self._known.values()
            if known is not None
            for tumbling in known.tumbling
            for made in self._closed(known, tumbling, tumbling.close())
        ]

    def _device(self, source: str, device: str, schema: Schema) -> _Device | None:
        key = (source, device, schema.fingerprint)
        if key in self._known:
            return self._known[key]
        check_device_id(device)
        try:
            plan = plan_of(self._rules, device, schema)
        except BadInput as error:
            log.error("%s is not windowed: %s", device, error)
            plan = None
        made = None
        if plan is not None:
            made = _Device(
                source, device, plan, [Deadband(band) for band in plan.bands],
                [Tumbling(each, _types(schema, each)) for each in plan.aggregates],
            )  # fmt: skip
        self._known[key] = made
        return made

    def _closed(
        self, known: _Device | None, tumbling: Tumbling, windows: list[tuple[int, tuple[Value, ...]]]
    ) -> list[Made]:
        if not windows or known is None:
            return []
        self._store(known, tumbling)
        schema = tumbling.plan.schema
        return [
            Made(known.source, known.device, schema, start, values, tumbling.flags, own=False)
            for start, values in windows
        ]

    def _store(self, known: _Device, tumbling: Tumbling) -> None:
        """The next commit stores what is open then, or forgets it where nothing is."""
        text = _plan_text(known.plan.schema, tumbling.plan)
        mark = hashlib.sha256(text).hexdigest()[:16]
        if _PLAN + mark not in self._announced:
            self._announced.add(_PLAN + mark)
            self._spool.keep(_PLAN + mark, lambda: text)
        self._spool.keep(f"{_OPEN}{known.source}\0{known.device}\0{mark}", tumbling.to_bytes)


class _PlanText(msgspec.Struct, array_like=True):
    schema: bytes
    places: tuple[int, ...]
    stats: tuple[tuple[str, ...], ...]
    every_us: int
    late_us: int


@lru_cache(maxsize=4096)
def _plan_text(schema: Schema, plan: Aggregate) -> bytes:
    return msgspec.msgpack.encode(
        _PlanText(schema.canonical_json, plan.places, plan.stats, plan.every_us, plan.late_us)
    )


def _read_plan(text: bytes) -> tuple[Schema, Aggregate]:
    found = msgspec.msgpack.decode(text, type=_PlanText)
    schema = Schema.from_json(found.schema)
    return schema, aggregate_of(schema, found.places, found.stats, found.every_us, found.late_us)


def _types(schema: Schema, plan: Aggregate) -> tuple[str, ...]:
    return tuple(schema.channels[i].type for i in plan.places)
