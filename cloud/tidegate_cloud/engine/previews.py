"""Previews: what people are shown while a stream is behind, and what is said once it has caught up (rules B6 to B9).

While a device was away its newest scans are sent as copies beside the backlog. They are run on a fork of the device's
rows and lead to `provisional` events. What the backlog leads to meanwhile is `historical`. When the in-order stream
reaches the end of what the preview has shown, the fork is dropped, and an event ``joined`` of the operator ``engine``
says so (subject: the schema's fingerprint). Before it the levels that differ from what people were told:

- a level that the preview missed, or with another start: its begin again, with its true start
  (``correction``: ``missed`` or ``start``);
- a level that was told and that the full record denies: ``denied``, an end (``correction``: ``denied``, ``denies``: the
  kind of the begin).

What belongs to a stream is known by its events: only subjects are compared that it, or its preview, had an event of
since the fork. Operators' rows of other channels than the stream's may have moved on for reasons of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import Event, event_id

from .chain import Chain, RowSet

ENGINE = "engine"
JOINED, DENIED = "joined", "denied"
CORRECTION, DENIES = "correction", "denies"
# Ordinals of what is said at a join: above those of what operators find in the same scan.
_ORDINAL = 1 << 16
_SUBJECTS_MAX = 4096


class Said(msgspec.Struct, array_like=True):
    """The newest event of one subject since the fork: what its next announcement looks like."""

    kind: str
    unit: str
    value: float | None
    limit: float | None
    lat: float | None
    lon: float | None
    attrs: dict[str, str]


class Told(msgspec.Struct, array_like=True):
    """What a stream or its preview had events of since the fork: (operator, subject) → the newest.

    `current`: of these, what was told as the present by the frame with which the in-order stream catches up.
    """

    said: dict[str, Said] = {}
    current: dict[str, bool] = {}


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(Told).decode
Stream = tuple[str, bytes]  # device, schema fingerprint


def _key(operator: str, subject: str) -> str:
    return f"{operator}\0{subject}"


class Previews:
    """The previews that are open: their rows, and what was told of them."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._rows: dict[bytes, RowSet] = {}
        self._told: dict[Stream, Told] = {}

    def __len__(self) -> int:
        return len(self._told)

    def __contains__(self, stream: Stream) -> bool:
        return stream in self._told

    def rows(self, fingerprint: bytes) -> RowSet:
        """The rows of all previews under one schema, by device."""
        rows = self._rows.get(fingerprint)
        if rows is None:
            rows = self._rows[fingerprint] = self._chain.new_rows()
        return rows

    def fork(self, device: str, fingerprint: bytes) -> None:
        """Open a preview: it begins with what is known of the device now."""
        self._told[device, fingerprint] = Told({}, {})
        for mine, fork in zip(self._chain.states, self.rows(fingerprint), strict=True):
            fork.restore(mine.snapshot([device]))

    def note(self, event: Event, fingerprint: bytes) -> None:
        """An event of a stream whose preview is open, or of the preview itself."""
        told = self._told.get((event.device, fingerprint))
        if told is None:
            return
        key = _key(event.operator, event.subject)
        if key in told.said or len(told.said) < _SUBJECTS_MAX:
            attrs = {k: v for k, v in event.attrs.items() if k not in (CORRECTION, DENIES, "reason")}
            told.said[key] = Said(event.kind, event.unit, event.value, event.limit, event.lat, event.lon, attrs)
        if event.lane == "authoritative":
            told.current[key] = True

    def join(self, device: str, fingerprint: bytes, ts_us: int, epoch: int, seq: int, learnt_us: int) -> list[Event]:
        """The in-order stream has caught up, with the scan (epoch, seq) at `ts_us`: what is to be said."""
        told = self._told.pop((device, fingerprint))
        made: list[Event] = []

        def tell(operator: str, kind: str, subject: str, **more: object) -> None:
            ordinal = _ORDINAL + len(made)
            name = event_id(
                device, operator, kind, subject, provisional=False, epoch=epoch, seq=seq, ordinal=ordinal
            )  # fmt: skip
            fields = {"phase": "instant", "ts_us": ts_us, **more}
            made.append(
                msgspec.convert(
                    {
                        "id": name, "device": device, "operator": operator, "kind": kind, "subject": subject,
                        "learnt_us": learnt_us, "epoch": epoch, "seq": seq, "ordinal": ordinal, **fields,
                    },
                    Event,
                )
            )  # fmt: skip

        truth = self._levels(device, self._chain.states, told)
        shown = self._levels(device, self.rows(fingerprint), told)
        for (operator, kind, subject), since_us in sorted(truth.items()):
            key = _key(operator, subject)
            before_us = shown.get((operator, kind, subject))
            if before_us == since_us or key in told.current:
                continue
            said = told.said[key]
            same = said.kind == kind
            tell(
                operator, kind, subject, phase="begin", ts_us=since_us, unit=said.unit if same else "",
                value=said.value if same else None, limit=said.limit if same else None,
                lat=said.lat if same else None, lon=said.lon if same else None,
                attrs={**said.attrs, CORRECTION: "missed" if before_us is None else "start"},
            )  # fmt: skip
        for operator, kind, subject in sorted(shown.keys() - truth.keys()):
            key = _key(operator, subject)
            if key not in told.current:
                attrs = {**told.said[key].attrs, CORRECTION: DENIED, DENIES: kind}
                tell(operator, DENIED, subject, phase="end", attrs=attrs)
        tell(ENGINE, JOINED, fingerprint.hex())
        self._drop(device, fingerprint)
        return made

    def _levels(self, device: str, rows: RowSet, told: Told) -> dict[tuple[str, str, str], int]:
        """(operator, kind, subject) → since when, of the subjects that belong to the stream."""
        return {
            (operator.name, level.kind, level.subject): level.since_us
            for operator, state in zip(self._chain.operators, rows, strict=True)
            for level in operator.levels(state, device)
            if _key(operator.name, level.subject) in told.said
        }

    def _drop(self, device: str, fingerprint: bytes) -> None:
        self._told.pop((device, fingerprint), None)
        for state in self._rows.get(fingerprint, ()):
            state.forget(device)

    def forget(self, device: str, fingerprints: Iterable[bytes]) -> None:
        """Forget the previews of a device."""
        for fingerprint in fingerprints:
            if (device, fingerprint) in self._told:
                self._drop(device, fingerprint)

    def load(self, device: str, fingerprint: bytes, told: bytes, rows: dict[str, bytes]) -> None:
        """Put back a preview that was open. Raises BadInput."""
        try:
            self._told[device, fingerprint] = _decode(told)
        except (msgspec.MsgspecError, ValueError) as error:
            raise BadInput(f"damaged: {error}", where="device row, preview") from None
        self._chain.load(device, rows, self.rows(fingerprint))

    def stored(self, device: str, fingerprint: bytes) -> tuple[bytes, dict[str, bytes]]:
        """What `load` reads."""
        return _encode(self._told[device, fingerprint]), self._chain.bytes_of(device, self.rows(fingerprint))

    def open(self) -> Iterator[Stream]:
        """The streams with a preview."""
        return iter(self._told)
