"""Golden frames of every version: read by both decoders, to the bit, for good."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import rfc8785
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import reference
from tidegate_protocols.codec.bulk import decode_many
from tidegate_protocols.codec.kernels.hazards import CLASS_MIN, HAZARDS
from tidegate_protocols.codec.kernels.heads import STARTS
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.frame import decode_frame, peek_header
from tidegate_protocols.schema import Schema

from tests.support.vectors import FOLDER, described

VECTORS = sorted(FOLDER.glob("*.frame"))


def test_there_are_vectors_of_every_codec() -> None:
    kinds = {path.name.split("-")[1] for path in VECTORS}
    assert kinds == {"plain", "bitpack", "range"}
    assert len(VECTORS) >= 22


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_golden_frame_holds_what_it_held_when_it_was_written(path: Path) -> None:
    frame = path.read_bytes()
    told = json.loads(path.with_suffix(".json").read_text("utf-8"))
    schema = Schema.from_json(json.dumps(told["schema"]))
    priors = {}
    if "priors" in told:
        known = Priors.from_json(rfc8785.dumps(told["priors"]))
        priors[known.name] = known
    batch = decode_frame(frame, {schema.fingerprint: schema}, priors)
    assert described(batch) == told["batch"]
    header = peek_header(frame)
    if header.codec != "plain":
        rows = priors[header.priors].rows if header.priors else None
        ts_us, columns, valid = reference.decode_columns(
            frame[header.body : header.end], schema, header.n, header.base_ts_us, header.codec, rows
        )
        by_reference = Batch(
            header.device, schema, header.epoch, header.seq, ts_us, columns, valid, header.lane,
            header.time_estimated, header.time_from_agent,
        )  # fmt: skip
        assert described(by_reference) == told["batch"]
    decoded = decode_many([frame], {schema.fingerprint: schema}, priors)
    assert decoded.bad == {}
    assert decoded.blocks[0].ts_us.tolist() == told["batch"]["ts_us"]


def test_the_specification_holds_the_tables_that_the_code_goes_by() -> None:
    section = Path("docs/frame.md").read_text("utf-8").partition("## 7. Tables")[2].partition("## 8.")[0]
    chances, starts = section.split("Slots of heads")
    rows = re.findall(r"(-?\d+): (-?\d+) (-?\d+) (-?\d+) (-?\d+)", chances)
    assert [[int(value) for value in row] for row in rows] == [
        [size, *row] for size, row in enumerate(HAZARDS.tolist(), CLASS_MIN)
    ]
    told = [[int(slot), int(chance)] for slot, chance in re.findall(r"(\d+): (\d+)", starts)]
    assert told == sorted(STARTS.tolist())
