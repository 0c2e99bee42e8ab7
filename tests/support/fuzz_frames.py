"""Damages golden frames and holds every decoder to the others: ``python -m tests.support.fuzz_frames COUNT SEED``.

The checksum is put right after each damage, so that what lies behind it is reached. A frame is read alike by the
compiled decoder, the bulk decoder and the plain-Python one, or refused; anything but BadInput ends the run.
With NUMBA_BOUNDSCHECK=1 every index of the compiled decoder is checked as well (give it a NUMBA_CACHE_DIR of its own).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rfc8785
from crc32c import crc32c
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import backend, reference
from tidegate_protocols.codec.bulk import decode_many
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import decode_frame, peek_header
from tidegate_protocols.schema import Schema

from tests.support.vectors import FOLDER, described

_AT_ONCE = 64


class Golden:
    """One vector: its bytes, and what is needed to read it."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.frame = path.read_bytes()
        told = json.loads(path.with_suffix(".json").read_text("utf-8"))
        schema = Schema.from_json(json.dumps(told["schema"]))
        self.schemas = {schema.fingerprint: schema}
        self.priors: dict[bytes, Priors] = {}
        if "priors" in told:
            known = Priors.from_json(rfc8785.dumps(told["priors"]))
            self.priors[known.name] = known
        self.body = peek_header(self.frame).body


def damaged(golden: Golden, rng: random.Random) -> bytes:
    """A frame that somebody wrote wrongly, or on purpose, under a checksum that fits."""
    data = bytearray(golden.frame[:-4])
    begin = 0 if rng.random() < 0.1 else golden.body
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = rng.randrange(begin, len(data)) if len(data) > begin else begin
        kind = rng.randrange(6)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(data):
            data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del data[place : place + rng.randrange(1, 9)]
        elif kind == 3:
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 4:
            data[place : place + 10] = b"\xff" * 9 + b"\x01"
        else:
            del data[rng.randrange(begin, len(data) + 1) :]
    return bytes(data) + crc32c(bytes(data)).to_bytes(4, "little")


def told(batch: Batch | BadInput) -> Any:
    """What can be compared of an outcome."""
    return None if isinstance(batch, BadInput) else described(batch)


def by_reference(frame: bytes, golden: Golden) -> Batch | BadInput:
    """A frame as the plain-Python decoder reads it."""
    try:
        header = peek_header(frame)
        schema = golden.schemas.get(header.fingerprint)
        if schema is None or (header.priors and header.priors not in golden.priors):
            raise BadInput("names what nobody knows")
        rows = golden.priors[header.priors].rows if header.priors else None
        ts_us, columns, valid = reference.decode_columns(
            frame[header.body : header.end], schema, header.n, header.base_ts_us, header.codec, rows
        )
        return Batch(
            header.device, schema, header.epoch, header.seq, ts_us, columns, valid, header.lane,
            header.time_estimated, header.time_from_agent,
        )  # fmt: skip
    except BadInput as error:
        return error


def compiled(frame: bytes, golden: Golden) -> Batch | BadInput:
    """A frame as the compiled decoder reads it."""
    try:
        return decode_frame(frame, golden.schemas, golden.priors)
    except BadInput as error:
        return error


def rounds(count: int, seed: int) -> Iterator[tuple[Golden, list[bytes]]]:
    """Some damaged frames of one vector after another."""
    rng = random.Random(seed)
    vectors = [Golden(path) for path in sorted(FOLDER.glob("*.frame")) if "-plain-" not in path.name]
    for _ in range(0, count, _AT_ONCE):
        golden = rng.choice(vectors)
        yield golden, [damaged(golden, rng) for _ in range(_AT_ONCE)]


def run(count: int, seed: int, *, twin: int = 1) -> tuple[int, int]:
    """Read `count` damaged frames; one in `twin` also in plain Python, which is slow. Returns (read, refused)."""
    read = refused = number = 0
    for golden, frames in rounds(count, seed):
        many = decode_many(frames, golden.schemas, golden.priors)
        for place, frame in enumerate(frames):
            one = compiled(frame, golden)
            number += 1
            assert (place in many.bad) == isinstance(one, BadInput), (
                golden.name,
                frame.hex(),
                many.bad.get(place),
                one,
            )
            if not isinstance(one, BadInput):
                block, row = many.blocks[many.block[place]], int(many.row[place])
                assert block.ts_us[row : row + len(one)].tolist() == one.ts_us.tolist(), (golden.name, frame.hex())
            if number % twin == 0 and _is_coded(frame):
                other = by_reference(frame, golden)
                assert told(other) == told(one), (golden.name, frame.hex(), one, other)
            read, refused = (read, refused + 1) if isinstance(one, BadInput) else (read + 1, refused)
    return read, refused


def _is_coded(frame: bytes) -> bool:
    """Whether the plain-Python decoder is for this frame: its header can be read, and it is not of the plain codec."""
    try:
        return peek_header(frame).codec != "plain"
    except BadInput:
        return False


if __name__ == "__main__":
    backend.load()
    print("read {}, refused {}".format(*run(int(sys.argv[1]), int(sys.argv[2]), twin=20)))
