"""Which codec the agent writes with: what was asked for once it is compiled, plain until then, none it cannot have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tidegate_edge.framing import Framer
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import backend
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import decode_frame, peek_header
from tidegate_protocols.schema import Channel, Schema

SCHEMA = Schema("wide", tuple(Channel(f"c{i}") for i in range(7)))


def batch(n: int) -> Batch:
    columns = tuple(np.round(20 + i + np.sin(np.arange(n) / (50 + i)), 2) for i in range(7))
    return Batch("d", SCHEMA, 1, 0, np.arange(n) * 1_000_000, columns, (None,) * 7)


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the kernels are still being compiled."""
    monkeypatch.setattr(backend, "ready", lambda: False)
    monkeypatch.setattr(backend, "prepare", lambda: None)


@pytest.mark.parametrize("codec", ["auto", "plain", "bitpack", "range"])
@pytest.mark.usefixtures("cold")
def test_until_the_kernels_are_compiled_every_frame_is_plain(codec: str) -> None:
    frame = Framer(codec).encode(batch(100))  # type: ignore[arg-type]
    assert peek_header(frame).codec == "plain"


@pytest.mark.parametrize("codec", ["plain", "bitpack", "range"])
def test_then_frames_are_written_as_was_asked_for(codec: str) -> None:
    backend.load()
    frame = Framer(codec).encode(batch(100))  # type: ignore[arg-type]
    assert peek_header(frame).codec == codec
    assert decode_frame(frame, {SCHEMA.fingerprint: SCHEMA}).equals(batch(100))


def test_auto_writes_the_smallest_frame_and_large_ones_fast() -> None:
    backend.load()
    framer = Framer("auto")
    sizes = {codec: len(Framer(codec).encode(batch(100))) for codec in ("plain", "bitpack", "range")}  # type: ignore[arg-type]
    assert len(framer.encode(batch(100))) <= min(sizes.values())
    assert peek_header(framer.encode(batch(5000))).codec == "bitpack"


def test_priors_make_the_frames_of_their_schema_smaller_and_no_others(tmp_path: Path) -> None:
    backend.load()
    from tidegate_protocols.codec.training import train_priors

    priors = train_priors([batch(n) for n in range(20, 60)])
    path = tmp_path / "wide.json"
    path.write_bytes(priors.canonical_json)
    framer = Framer("auto", [str(path)])
    frame = framer.encode(batch(20))
    assert peek_header(frame).priors == priors.name
    assert len(frame) < len(Framer("auto").encode(batch(20)))
    known = {SCHEMA.fingerprint: SCHEMA}
    assert decode_frame(frame, known, {priors.name: priors}).equals(batch(20))
    other = Batch("d", Schema("other", SCHEMA.channels), 1, 0, batch(20).ts_us, batch(20).columns, batch(20).valid)
    assert peek_header(framer.encode(other)).priors == b""


def test_files_that_hold_no_priors_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"{}")
    with pytest.raises(BadInput, match=r"batch\.priors\[0\], .*bad\.json.*not priors"):
        Framer("auto", [str(tmp_path / "bad.json")])
    with pytest.raises(BadInput, match=r"batch\.priors\[0\]: .*none\.json cannot be read: No such file"):
        Framer("auto", [str(tmp_path / "none.json")])


def test_a_codec_that_needs_numba_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_KERNELS", "off")
    with pytest.raises(BadInput, match=r"batch\.codec: 'range' needs numba"):
        Framer("range")
    assert peek_header(Framer("auto").encode(batch(100))).codec == "plain" or backend.ready()
