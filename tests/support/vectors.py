"""Golden frames: what is in `tests/protocols/vectors/`, and how it came there.

A vector is NAME.frame, the bytes, and NAME.json: the schema, the priors if it names any, and the batch with every value
as the 16 hex digits of its bits, null where there is none. Vectors are never made anew: a later version must read them
as they stand. `python -m tests.support.vectors` writes those that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tidegate_protocols.batch import Batch, Lane
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.schema import Channel, Schema

FOLDER = Path(__file__).resolve().parents[1] / "protocols" / "vectors"


def described(batch: Batch) -> dict[str, Any]:
    """A batch as plain JSON, every value by its bits."""
    columns = []
    for column, mask in zip(batch.columns, batch.valid, strict=True):
        words = column.astype(np.int64) if column.dtype == np.bool_ else column
        bits = [f"{word:016x}" for word in np.ascontiguousarray(words).view(np.uint64).tolist()]
        columns.append([bit if mask is None or mask[i] else None for i, bit in enumerate(bits)])
    return {
        "device": batch.device, "epoch": batch.epoch, "seq": batch.seq, "lane": batch.lane.name,
        "time_estimated": batch.time_estimated, "time_from_agent": batch.time_from_agent,
        "ts_us": batch.ts_us.tolist(), "columns": columns,
    }  # fmt: skip


def _batches() -> Iterator[tuple[str, Batch]]:
    rng = np.random.default_rng(1)
    n = 150
    t = np.arange(n)
    walk = np.cumsum(rng.integers(-9, 10, n))
    awkward = np.array(
        [0, 1 << 63, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8000000000123, 0xFFF4000000000001, 1, (1 << 63) | 1], np.uint64
    )
    second = 1_000_000
    regular = 1_700_000_000_000_000 + t * second

    def batch(name: str, columns: dict[str, Any], ts: Any = regular, valid: Any = None, **more: Any) -> Batch:
        kinds = {"f": "float64", "i": "int64", "b": "bool"}
        schema = Schema(name, tuple(Channel(key, kinds[value.dtype.kind]) for key, value in columns.items()))  # type: ignore[arg-type]
        values = tuple(columns.values())
        return Batch(f"dev-{name}", schema, 7, 123_456, ts, values, valid or (None,) * len(values), **more)

    yield "models", batch("models", {
        "decimals": (walk + 2000) / 100, "odd_one": np.where(t == 70, np.pi, (walk + 2000) / 100),
        "binary": walk / 4096 + 1 / 4096, "single_decimals": ((walk + 2000) / 100).astype(np.float32).astype(float),
        "singles": np.cumsum(rng.normal(size=n)).astype(np.float32).astype(float), "near": walk / 10 + 0.1 + 0.2,
        "ordered": 1e9 + np.cumsum(rng.normal(size=n)) * 1e-4, "split": rng.normal(size=n),
        "raw": rng.integers(0, 2**64, n, dtype=np.uint64).view(np.float64), "constant": np.full(n, np.e),
        "few": rng.choice(rng.normal(size=5), n), "stride": walk * 0.25,
    })  # fmt: skip
    yield "integers", batch("integers", {
        "counter": (t * 7 + 65_000 & 0xFFFF).astype(np.int64), "ends": np.where(t % 2, 2**63 - 1, -(2**63)),
        "wide": rng.integers(-(2**63), 2**63 - 1, n), "line": (t * 333 // 2).astype(np.int64),
        "noise": rng.integers(0, 9, n), "flag": t % 40 < 20, "mostly": rng.random(n) < 0.03,
    }, regular + rng.integers(-500, 501, n), lane=Lane.BACKLOG, time_from_agent=True)  # fmt: skip
    yield "nulls", batch("nulls", {
        "half": (walk + 10) / 10, "none": np.zeros(n), "runs": walk.astype(np.int64), "bits": rng.random(n) < 0.5,
    }, np.cumsum(rng.integers(0, 10**7, n)), (rng.random(n) < 0.5, np.zeros(n, np.bool_), t < 120, t != 3),
        lane=Lane.PREVIEW, time_estimated=True)  # fmt: skip
    words = rng.integers(0, 2**64, 2 * n, dtype=np.uint64)
    half = np.where(np.arange(2 * n) < n, words, words >> np.uint64(60))
    yield "hostile", batch("hostile", {
        "half": half.view(np.int64), "raw": words.view(np.int64), "table": rng.choice(rng.normal(size=60), 2 * n),
        "wave": np.round(60 + 10 * np.sin(np.arange(2 * n) / 50) + rng.normal(0, 0.2, 2 * n), 1),
    }, 10**15 + 1_000_000 * np.arange(2 * n), (rng.random(2 * n) < 0.5, None, None, None))  # fmt: skip
    awkward_column = np.resize(awkward, 24).view(np.float64)
    yield "awkward", batch("awkward", {"v": awkward_column, "w": awkward_column[::-1].copy()}, regular[:24])
    yield "single", batch("single", {"v": np.array([21.5]), "k": np.array([-1]), "b": np.array([True])}, regular[:1])
    yield "before_1970", batch("past", {"v": np.array([1.0, 2.0])}, np.array([-5, 2**62]))


def make() -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """(name, frame, description) of every vector of version 1."""
    from tidegate_protocols.codec.training import train_priors

    for name, batch in _batches():
        for codec in ("plain", "bitpack", "range"):
            frame = encode_frame(batch, codec=codec)  # type: ignore[arg-type]
            yield f"v1-{codec}-{name}", frame, {"schema": batch.schema.to_avro(), "batch": described(batch)}
    rng = np.random.default_rng(2)
    schema = Schema("trained", (Channel("a"), Channel("b"), Channel("k", "int64")))

    def trained(n: int) -> Batch:
        columns = (
            np.round(rng.normal(20, 1, n), 2), np.round(1000 + np.cumsum(rng.normal(0, 1, n)), 1),
            np.cumsum(rng.integers(0, 3, n)),
        )  # fmt: skip
        return Batch("t", schema, 0, 0, 10**15 + 10**6 * np.arange(n), columns, (None,) * 3)

    priors: Priors = train_priors([trained(32) for _ in range(20)])
    batch = trained(20)
    frame = encode_frame(batch, codec="range", priors=priors)
    yield "v1-range-priors", frame, {
        "schema": schema.to_avro(), "priors": json.loads(priors.canonical_json), "batch": described(batch)
    }  # fmt: skip


if __name__ == "__main__":
    from tidegate_protocols.codec import backend

    backend.load()
    FOLDER.mkdir(exist_ok=True)
    for name, frame, description in make():
        if not (FOLDER / f"{name}.frame").exists():
            (FOLDER / f"{name}.frame").write_bytes(frame)
            (FOLDER / f"{name}.json").write_text(json.dumps(description, indent=None) + "\n", "utf-8")
