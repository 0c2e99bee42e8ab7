"""An event: a fact that an operator found in a device's telemetry. On `fleet.events`, key = device id."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from .avro import AvroCodec

Phase = Literal["instant", "begin", "end"]
EventLane = Literal["authoritative", "provisional", "historical"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """See ``schemas/Event.avsc``. Times are microseconds since 1970 UTC; `lat` and `lon` are WGS 84 degrees.

    `phase`: `begin` and `end` bound a condition (entered … exited, above … within); `instant` stands alone.
    `lane`: `provisional` comes from a preview, `historical` from backlog that a preview has overtaken and pages nobody.
    """

    id: str
    device: str
    operator: str
    kind: str
    phase: Phase
    subject: str
    ts_us: int
    learnt_us: int
    lane: EventLane = "authoritative"
    epoch: int
    seq: int
    ordinal: int
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    lat: float | None = None
    lon: float | None = None
    attrs: dict[str, str] = {}


EVENT = AvroCodec("Event", Event)


def event_id(
    device: str, operator: str, kind: str, subject: str, *, provisional: bool, epoch: int, seq: int, ordinal: int
) -> str:
    """The 32 hex digits that name an event: the same input gives the same id, whoever computes it and when."""
    text = "\0".join((device, operator, kind, subject, "pa"[not provisional], str(epoch), str(seq), str(ordinal)))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
