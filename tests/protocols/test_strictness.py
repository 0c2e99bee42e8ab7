"""What the specification forbids, all decoders refuse: times, tables, spare bits, bytes that nothing needs."""

from __future__ import annotations

import numpy as np
import pytest
from crc32c import crc32c
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import compiled, reference
from tidegate_protocols.codec.bulk import decode_many
from tidegate_protocols.codec.cells import cells_of
from tidegate_protocols.codec.kernels import heads, ranging
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import decode_frame, encode_frame, peek_header
from tidegate_protocols.schema import Channel, Schema

pytestmark = pytest.mark.usefixtures("compiled")
SCHEMA = Schema("s", (Channel("k", "int64"),))
N = 20
BATCH = Batch("d", SCHEMA, 0, 0, np.arange(N, dtype=np.int64) * 7, (np.arange(N, dtype=np.int64) % 3,), (None,))


def with_body(codec: str, body: bytes, batch: Batch = BATCH) -> bytes:
    """A frame of `batch` with another body, under a checksum that fits."""
    frame = encode_frame(batch, codec=codec)  # type: ignore[arg-type]
    data = frame[: peek_header(frame).body] + body
    return data + crc32c(data).to_bytes(4, "little")


def body_of(codec: str, batch: Batch = BATCH) -> bytes:
    frame = encode_frame(batch, codec=codec)  # type: ignore[arg-type]
    header = peek_header(frame)
    return frame[header.body : header.end]


def refused_by_all(frame: bytes, why: str, batch: Batch = BATCH) -> None:
    known = {batch.schema.fingerprint: batch.schema}
    header = peek_header(frame)
    with pytest.raises(BadInput, match=why):
        decode_frame(frame, known)
    with pytest.raises(BadInput, match=why):
        reference.decode_columns(
            frame[header.body : header.end],
            batch.schema,
            header.n,
            header.base_ts_us,
            header.codec,  # type: ignore[arg-type]
        )
    assert why in str(decode_many([frame], known).bad[0])


def taken_by_all(frame: bytes, batch: Batch = BATCH) -> None:
    known = {batch.schema.fingerprint: batch.schema}
    header = peek_header(frame)
    decode_frame(frame, known)
    reference.decode_columns(
        frame[header.body : header.end],
        batch.schema,
        header.n,
        header.base_ts_us,
        header.codec,  # type: ignore[arg-type]
    )
    assert decode_many([frame], known).bad == {}


@pytest.mark.parametrize("codec", ["bitpack", "range"])
def test_a_first_time_that_is_not_the_headers(codec: compiled.CompiledName) -> None:
    cells, masks = cells_of(BATCH)
    cells[0] += np.uint64(1)
    body = compiled.encode_cells(cells, masks, compiled.types_of(SCHEMA), codec)
    refused_by_all(with_body(codec, body), "the first time is not the header's")


@pytest.mark.parametrize("codec", ["bitpack", "range"])
@pytest.mark.parametrize(("gap", "sound"), [(1, True), (0, False), (2**64 - 1, False), (2**63, False)])
def test_a_table_that_does_not_ascend(codec: str, gap: int, sound: bool) -> None:
    times = b"\x80\x02\x00\x0e"  # all zero, delta, base 0, step 7
    if codec == "bitpack":
        block = bytes([gap.bit_length()]) + gap.to_bytes((gap.bit_length() + 7) // 8, "little")
        body = times + b"\xa0\x00\x02\x0a" + block + b"\x00"  # dictionary, all zero; 2 entries from 5; base 0
    else:
        body = _ranged_table(gap)
    frame = with_body(codec, body)
    if sound:
        taken_by_all(frame)
    else:
        refused_by_all(frame, "its transform is damaged")


def _ranged_table(gap: int) -> bytes:
    """Times as above and a column of indices 0 into a table of 5 and 5 + gap, through the range coder."""
    out, back = np.zeros(4096, np.uint8), np.zeros(4096, np.uint8)
    state = np.zeros(ranging.STATE_SIZE, np.uint64)
    p, seen = np.full(heads.SLOTS, 32768, np.int64), np.zeros(heads.SLOTS, np.int64)
    for slot, chance in heads.STARTS.tolist():
        p[slot], seen[slot] = chance, heads.START_SEEN
    ranging.start_encoder(state)

    def flag(slot: int, bit: int) -> None:
        ranging.put_bit(state, out, p, seen, slot, bit)

    def tree(first: int, bits: int, value: int) -> None:
        ranging.put_tree(state, out, p, seen, first, bits, value)

    def number(first: int, value: int) -> None:
        ranging.put_number(state, out, back, p, seen, first, np.uint64(value))

    def head(transform: int, mode: int) -> None:
        flag(heads.NULLS, 0)
        flag(heads.RAW, 0)
        flag(heads.STRANGE, 0)
        tree(heads.TRANSFORM, 2, transform)
        if transform:
            number(heads.OTHER, 2)
            number(heads.OTHER, 10)
            flag(heads.ZERO, int(gap == 0))
            if gap:
                flag(heads.BLOCKS, 1)
                tree(heads.OTHER, 7, gap.bit_length())
                ranging.put_bits(state, back, np.uint64(gap), gap.bit_length())
        tree(heads.MODE, 3, mode)
        number(heads.BASE, 0)
        if mode == 2:
            number(heads.STEP, 14)
        flag(heads.ZERO, 1)

    head(0, 2)
    head(2, 0)
    return out[: ranging.finish(state, out, back)].tobytes()


def test_spare_bits_of_a_block() -> None:
    body = bytearray(body_of("bitpack"))
    taken_by_all(with_body("bitpack", bytes(body)))
    assert N * 2 % 8 == 0, "20 values of 2 bits fill their bytes: the block must not"
    batch = BATCH.slice(0, 19)
    body = bytearray(body_of("bitpack", batch))
    body[-1] |= 0x80
    refused_by_all(with_body("bitpack", bytes(body), batch), "column k", batch)


def test_spare_bits_of_the_plain_bits() -> None:
    rng = np.random.default_rng(1)
    noise = Batch("d", SCHEMA, 0, 0, BATCH.ts_us, (rng.integers(0, 2**37, N),), (None,))
    body = bytearray(body_of("range", noise))
    source = reference._Ranged(bytes(body), N, None)
    for index, kind in enumerate(("time", "int64")):
        source.column(index, kind, "")
    assert source.back % 8, "this batch leaves spare bits"
    body[len(body) - 1 - source.back // 8] ^= 0x80
    refused_by_all(with_body("range", bytes(body), noise), "not those of the columns alone", noise)


@pytest.mark.parametrize("more", [1, 3, 9, 500])
def test_bytes_between_decisions_and_plain_bits(more: int) -> None:
    rng = np.random.default_rng(1)
    noise = Batch("d", SCHEMA, 0, 0, BATCH.ts_us, (rng.integers(0, 2**37, N),), (None,))
    body = body_of("range", noise)
    source = reference._Ranged(body, N, None)
    for index, kind in enumerate(("time", "int64")):
        source.column(index, kind, "")
    behind = (source.back + 7) // 8
    longer = body[: len(body) - behind] + bytes(more) + body[len(body) - behind :]
    front = len(body) - behind - (source.front - 8)
    frame = with_body("range", longer, noise)
    if front + more > 8:
        refused_by_all(frame, "not those of the columns alone", noise)
    else:
        taken_by_all(frame, noise)  # the last word, spelt out in full
