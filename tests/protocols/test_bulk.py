"""Many frames at once: the same as one by one, whoever reads them and whatever is among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import bulk
from tidegate_protocols.codec.bulk import Decoded, decode_many
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import UnknownPriors, UnknownSchema, decode_frame, encode_frame, peek_header
from tidegate_protocols.schema import Channel, Schema

from tests.support.batches import batches

pytestmark = pytest.mark.usefixtures("compiled")


def scans_of(decoded: Decoded) -> list[tuple[object, ...]]:
    """Every scan as plain values with its bits, in the order of messages and sequence."""
    rows = []
    for block in decoded.blocks:
        for i in range(len(block.ts_us)):
            cells = tuple(
                None if mask is not None and not mask[i] else column[i].tobytes()
                for column, mask in zip(block.columns, block.valid, strict=True)
            )
            rows.append((
                int(block.message[i]), int(block.seq[i]), int(block.epoch[i]),
                decoded.devices[block.device[i]].decode(), block.schema.fingerprint, int(block.ts_us[i]), cells,
            ))  # fmt: skip
    return sorted(rows, key=lambda row: (row[0], row[1]))


def slowly(frames: list[bytes], schemas: dict[bytes, Schema], priors: dict[bytes, Priors] | None = None) -> Decoded:
    """As before the kernels are there."""
    return bulk._Call(list(frames), schemas, priors or {}, compiled=False).decoded()


def headers_of(decoded: Decoded) -> list[object]:
    """All that is said of each frame, and what kind of error each bad one is."""
    said = (decoded.device, decoded.schema, decoded.flags, decoded.block, decoded.row)
    good = decoded.flags != 0xFF
    names = (decoded.epoch, decoded.seq, decoded.scans, decoded.ts_us)
    errors = [(i, type(error)) for i, error in decoded.bad.items()]
    return [decoded.devices, decoded.schemas, errors, *(a.tolist() for a in said), *(a[good].tolist() for a in names)]


def naive(frames: list[bytes], schemas: dict[bytes, Schema]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for message, frame in enumerate(frames):
        try:
            batch = decode_frame(frame, schemas)
        except BadInput:
            continue
        for i in range(len(batch)):
            cells = tuple(
                None if mask is not None and not mask[i] else column[i].tobytes()
                for column, mask in zip(batch.columns, batch.valid, strict=True)
            )
            rows.append((
                message, batch.seq + i, batch.epoch, batch.device, batch.schema.fingerprint, int(batch.ts_us[i]), cells
            ))  # fmt: skip
    return rows


@given(
    given_batches=st.lists(batches(max_scans=30, max_channels=3), max_size=6),
    codecs=st.lists(st.sampled_from(["plain", "bitpack", "range"]), min_size=6, max_size=6),
    data=st.data(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_many_are_read_as_one_by_one_with_damage_and_strangers_among_them(
    given_batches: list[Batch], codecs: list[str], data: st.DataObject
) -> None:
    schemas = {batch.schema.fingerprint: batch.schema for batch in given_batches}
    frames = [encode_frame(b, codec=c) for b, c in zip(given_batches, codecs, strict=False)]  # type: ignore[arg-type]
    if frames and data.draw(st.booleans()):
        spoilt = bytearray(frames[0])
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] ^= 1 + data.draw(st.integers(0, 254))
        frames.insert(data.draw(st.integers(0, len(frames))), bytes(spoilt))
    if given_batches and data.draw(st.booleans()):
        schemas.pop(given_batches[-1].schema.fingerprint)
    decoded = decode_many(frames, schemas)
    assert decoded.taken == len(frames)
    assert scans_of(decoded) == naive(frames, schemas)
    slow = slowly(frames, schemas)
    assert scans_of(slow) == scans_of(decoded)
    assert headers_of(slow) == headers_of(decoded)
    for i, frame in enumerate(frames):
        try:
            header = peek_header(frame)
        except BadInput:
            assert (decoded.device[i], decoded.schema[i], decoded.flags[i], i in decoded.bad) == (-1, -1, 0xFF, True)
            continue
        assert decoded.devices[decoded.device[i]].decode() == header.device
        assert decoded.schemas[decoded.schema[i]] == header.fingerprint
        found = decoded.epoch[i], decoded.seq[i], decoded.scans[i], decoded.ts_us[i], decoded.flags[i] & 3
        assert found == (header.epoch, header.seq, header.n, header.base_ts_us, header.lane)
        assert (decoded.block[i] < 0) == (i in decoded.bad)
        if i not in decoded.bad:
            block, row = decoded.blocks[decoded.block[i]], decoded.row[i]
            assert block.message[row : row + header.n].tolist() == [i] * header.n
            assert block.seq[row] == header.seq


def some(n: int = 3, channels: int = 1, device: str = "d", seq: int = 0) -> Batch:
    schema = Schema("s", tuple(Channel(f"c{i}") for i in range(channels)))
    ts = np.arange(n, dtype=np.int64)
    return Batch(device, schema, 0, seq, ts, (np.arange(n) / 10,) * channels, (None,) * channels)


def test_no_frames_give_no_blocks() -> None:
    decoded = decode_many([], {})
    assert (decoded.blocks, decoded.devices, decoded.bad, decoded.taken) == ([], [], {}, 0)


def test_an_unknown_schema_is_told_from_damage() -> None:
    batch = some()
    decoded = decode_many([encode_frame(batch, codec="range"), b"TG?"], {})
    assert isinstance(decoded.bad[0], UnknownSchema)
    assert not isinstance(decoded.bad[1], UnknownSchema)
    assert decoded.flags.tolist() == [0, 0xFF]
    assert decoded.device.tolist() == [0, -1]
    assert (decoded.devices, decoded.schemas) == ([b"d"], [batch.schema.fingerprint])


def test_a_record_without_a_value_is_bad_and_holds_up_no_other() -> None:
    batch = some()
    decoded = decode_many([None, encode_frame(batch), None], {batch.schema.fingerprint: batch.schema})
    assert sorted(decoded.bad) == [0, 2]
    assert decoded.blocks[0].message.tolist() == [1, 1, 1]


def test_damage_under_a_fitting_checksum_is_found_where_it_is() -> None:
    from crc32c import crc32c

    batch = some(50)
    good = encode_frame(batch, codec="bitpack")
    body = bytearray(good[:-4])
    cut = bytes(body[:-3])
    spoilt = cut + crc32c(cut).to_bytes(4, "little")
    decoded = decode_many([good, spoilt, good], {batch.schema.fingerprint: batch.schema})
    assert list(decoded.bad) == [1]
    assert "column c0" in str(decoded.bad[1])
    assert np.unique(decoded.blocks[0].message).tolist() == [0, 2]
    assert len(decoded.blocks[0].ts_us) == 100


def test_small_frames_that_stand_for_many_values_do_not_fill_the_memory() -> None:
    batch = some(60_000, 15)
    frame = encode_frame(batch, codec="bitpack")
    frames = [frame] * 40
    schemas = {batch.schema.fingerprint: batch.schema}
    first = decode_many(frames, schemas)
    assert 0 < first.taken < 40
    assert first.blocks[0].columns[0].nbytes * 16 <= 8 * bulk.CALL_CELLS_MAX
    assert decode_many(frames[first.taken :], schemas).taken > 0


def test_frames_with_priors_need_them_by_name() -> None:
    from tidegate_protocols.codec.training import train_priors

    rng = np.random.default_rng(5)

    def noisy(n: int) -> Batch:
        return replace(some(n, 2), columns=tuple(np.round(rng.normal(20, 1, n), 2) for _ in range(2)))

    past = [noisy(40) for _ in range(5)]
    priors = train_priors(past)
    again = Priors.from_json(priors.canonical_json)
    assert again == priors
    schema = past[0].schema
    batch = noisy(30)
    frame = encode_frame(batch, codec="range", priors=priors)
    assert len(frame) < len(encode_frame(batch, codec="range"))
    known = {schema.fingerprint: schema}
    decoded = decode_many([frame], known, {again.name: again})
    assert decoded.blocks[0].columns[0].tobytes() == batch.columns[0].tobytes()
    assert decode_frame(frame, known, {again.name: again}).equals(batch)
    assert isinstance(decode_many([frame], known).bad[0], UnknownPriors)
    with pytest.raises(UnknownPriors):
        decode_frame(frame, known)


@pytest.mark.parametrize("at_hand", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_priors_of_the_name_zero_are_not_no_priors(place: int, at_hand: bool) -> None:
    from crc32c import crc32c
    from tidegate_protocols.codec.training import train_priors

    rng = np.random.default_rng(7)
    past = [replace(some(40), columns=(np.round(rng.normal(20, 1, 40), 2),)) for _ in range(5)]
    named = train_priors(past)
    schemas = {past[0].schema.fingerprint: past[0].schema}
    odd = replace(past[0], device="evil")
    with_name = encode_frame(odd, codec="range", priors=named)
    body = with_name[:-4].replace(named.name, bytes(4))
    evil = body + crc32c(body).to_bytes(4, "little")
    frames = [encode_frame(some(9, device="a"), codec="range"), encode_frame(some(9, device="b"), codec="bitpack")]
    frames.insert(place, evil)
    known = {bytes(4): named} if at_hand else {}
    decoded = decode_many(frames, schemas, known)
    slow = slowly(frames, schemas, known)
    assert headers_of(decoded) == headers_of(slow)
    assert list(decoded.bad) == ([] if at_hand else [place])
    assert scans_of(decoded) == scans_of(slow)
