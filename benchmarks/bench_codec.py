"""The codec: bytes a reading and readings a second, against pcodec, protobuf, Arrow, JSON and raw columns with zstd.

Workloads: `env8`, eight decimals at 1 Hz with noise, drift and a slow wave; `gps5`, positions of a vehicle at 1 Hz with
6 decimals (time, lat, lon, speed, course); `buses`, the recorded buses, per vehicle, 64 scans; `nab`, the recorded
series, value columns alone. A reading is a value of a channel: times are carried, and not counted. Frames are whole:
header and checksum are counted, for the peers nothing but the data. `env8` builds on priors trained on other batches;
`env8-bare` and all others do without.
"""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pcodec
import pyarrow as pa
import zstandard
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from pcodec import standalone
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import backend, compiled
from tidegate_protocols.codec.bulk import decode_many
from tidegate_protocols.codec.kernels import plans
from tidegate_protocols.codec.training import train_priors
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.schema import Channel, Schema

from benchmarks.common import Row, best_seconds, run
from tests.support.data import data_dir

Floats = npt.NDArray[np.float64]
_T0 = 1_700_000_000_000_000
_SECOND = 1_000_000


# Workloads


def env8(n: int, seed: int) -> Batch:
    """Eight channels of an environmental sensor: drift, white noise, a slow wave, a coarse counter-like level."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    columns = (
        np.round(21 + np.cumsum(rng.normal(0, 0.03, n)), 2),
        np.round(45 + np.cumsum(rng.normal(0, 0.1, n)), 1),
        np.round(1013 + np.cumsum(rng.normal(0, 0.05, n)), 2),
        np.round(12.6 + rng.normal(0, 0.02, n), 2),
        np.round(np.abs(rng.normal(5, 1, n)), 2),
        np.round(60 + 10 * np.sin(t / 50) + rng.normal(0, 0.2, n), 1),
        np.round(800 + rng.normal(0, 5, n), 0),
        np.round(0.5 + rng.normal(0, 0.01, n), 3),
    )
    schema = Schema("env", tuple(Channel(f"c{i}") for i in range(8)))
    ts = _T0 + (seed * 86_400 + t) * _SECOND
    return Batch(f"env-{seed % 1000:04}", schema, 3, 100_000 + seed, ts, columns, (None,) * 8)


def noise_entropy() -> float:
    """Bits a scan of `env8` that nobody can foretell: those of its normal noise, rounded to the channel's resolution.

    A normal value of deviation s steps, rounded at an unknown phase, has log2(2 pi e (s**2 + 1/12)) / 2 bits.
    """
    steps = np.array([3, 1, 5, 2, 100, 2, 5, 10])  # of normal(0, s) above, over the resolution
    return float(np.sum(np.log2(2 * np.pi * np.e * (steps**2 + 1 / 12)) / 2))


def gps5(n: int, seed: int) -> Batch:
    """A vehicle at 1 Hz: smooth speed and course, positions to 6 decimals, with a metre of receiver noise."""
    rng = np.random.default_rng(seed)
    course = 360 * rng.random() + np.cumsum(rng.normal(0, 2, n))
    speed = np.abs(12 + np.cumsum(rng.normal(0, 0.3, n)))
    north = np.cumsum(speed * np.cos(np.radians(course))) + np.cumsum(rng.normal(0, 0.1, n))
    east = np.cumsum(speed * np.sin(np.radians(course))) + np.cumsum(rng.normal(0, 0.1, n))
    lat = np.round(48.1 + north / 111_320, 6)
    lon = np.round(11.5 + east / (111_320 * np.cos(np.radians(48.1))), 6)
    schema = Schema("gps", (Channel("lat"), Channel("lon"), Channel("speed"), Channel("heading")))
    ts = _T0 + (seed * 86_400 + np.arange(n)) * _SECOND
    columns = (lat, lon, np.round(speed, 2), np.round(course % 360, 1))
    return Batch(f"bus-{seed % 1000:04}", schema, 3, 100_000 + seed, ts, columns, (None,) * 4)


def buses(scans: int, most: int) -> list[Batch]:
    """The recorded buses of one day: the first `scans` of a vehicle are a batch; at most `most` batches."""
    tracks: dict[str, list[tuple[int, float, float, float]]] = {}
    with gzip.open(data_dir() / "capmetrics" / "2016-03-22.csv.gz", "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            ts = int(datetime.fromisoformat(row["timestamp"]).timestamp()) * _SECOND
            fix = ts, float(row["latitude"]), float(row["longitude"]), float(row["speed"])
            tracks.setdefault(row["vehicle_id"], []).append(fix)
    schema = Schema("bus", (Channel("lat"), Channel("lon"), Channel("speed")))
    found = []
    for vehicle, fixes in sorted(tracks.items()):
        fixes.sort()
        if len(fixes) < scans:
            continue
        part = np.array(fixes[:scans])
        ts = part[:, 0].astype(np.int64)
        columns = tuple(np.ascontiguousarray(part[:, i]) for i in (1, 2, 3))
        found.append(Batch(f"bus-{vehicle}", schema, 3, 100_000, ts, columns, (None,) * 3))
        if len(found) == most:
            break
    return found


def nab(size: int, per_file: int) -> list[list[Floats]]:
    """Stretches of `size` values of every recorded series, evenly spaced; one list per series."""
    found = []
    for path in sorted((data_dir() / "nab" / "data").rglob("*.csv.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            values = np.array([float(row["value"]) for row in csv.DictReader(lines)])
        if len(values) >= size:
            starts = np.linspace(0, len(values) - size, per_file).astype(int)
            found.append([np.ascontiguousarray(values[start : start + size]) for start in starts])
    return found


# Peers


@dataclass(frozen=True, slots=True)
class Peer:
    """Another way to write a batch. `encode` gives bytes, `decode` reads them into columns."""

    name: str
    encode: Callable[[Batch], Any]
    decode: Callable[[Any], object]


_squeeze = zstandard.ZstdCompressor(level=3)
_expand = zstandard.ZstdDecompressor()


@cache
def _scan_type(channels: int) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=f"scans{channels}.proto", package="bench", syntax="proto3")
    scan = file.message_type.add(name=f"Scan{channels}")
    scan.field.add(name="ts", number=1, type=3, label=1)
    for i in range(channels):
        scan.field.add(name=f"c{i}", number=i + 2, type=1, label=1)
    file.message_type.add(name=f"Scans{channels}").field.add(
        name="scans", number=1, type=11, label=3, type_name=f".bench.Scan{channels}"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"bench.Scans{channels}"))


def _protobuf(batch: Batch) -> tuple[int, bytes]:
    scans = _scan_type(len(batch.columns))()
    names = [f"c{i}" for i in range(len(batch.columns))]
    rows = zip(batch.ts_us.tolist(), *(column.tolist() for column in batch.columns), strict=True)
    for ts, *values in rows:
        scans.scans.add(ts=ts, **dict(zip(names, values, strict=True)))
    return len(batch.columns), _squeeze.compress(scans.SerializeToString())


def _protobuf_back(data: tuple[int, bytes]) -> list[npt.NDArray[Any]]:
    scans = _scan_type(data[0]).FromString(_expand.decompress(data[1])).scans
    names = [f"c{i}" for i in range(data[0])]
    return [np.array([getattr(scan, name) for scan in scans]) for name in ("ts", *names)]


def _json(batch: Batch) -> bytes:
    columns = [batch.ts_us.tolist(), *(column.tolist() for column in batch.columns)]
    names = ["ts", *(channel.name for channel in batch.schema.channels)]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return _squeeze.compress(json.dumps(rows, separators=(",", ":")).encode())


def _arrow(batch: Batch) -> bytes:
    names = ["ts", *(channel.name for channel in batch.schema.channels)]
    table = pa.record_batch([pa.array(column) for column in (batch.ts_us, *batch.columns)], names=names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(table)
    return bytes(sink.getvalue())


def _raw(batch: Batch) -> bytes:
    return _squeeze.compress(b"".join(column.tobytes() for column in (batch.ts_us, *batch.columns)))


def _pcodec(batch: Batch) -> list[bytes]:
    config = pcodec.ChunkConfig()
    return [standalone.simple_compress(column, config) for column in (batch.ts_us, *batch.columns)]


def _pcodec_back(parts: list[bytes]) -> list[npt.NDArray[Any] | None]:
    return [standalone.simple_decompress(part) for part in parts]


PEERS = (
    Peer("protobuf+zstd", _protobuf, _protobuf_back),
    Peer("json+zstd", _json, lambda data: json.loads(_expand.decompress(data))),
    Peer("arrow+zstd", _arrow, lambda data: pa.ipc.open_stream(data).read_all()),
    Peer("raw+zstd", _raw, lambda data: np.frombuffer(_expand.decompress(data), np.float64)),
    Peer("pcodec", _pcodec, _pcodec_back),
)


def _size(encoded: Any) -> int:
    if isinstance(encoded, tuple):
        return len(encoded[1])
    return sum(map(len, encoded)) if isinstance(encoded, list) else len(encoded)


def _bytes_per_reading(case: str, batches: Sequence[Batch], ours: Callable[[Batch], bytes]) -> list[Row]:
    """One row against the best peer, then one against each of the others."""
    readings = sum(batch.readings for batch in batches)
    value = sum(len(ours(batch)) for batch in batches) / readings
    peers = {peer.name: sum(_size(peer.encode(batch)) for batch in batches) / readings for peer in PEERS}
    best = sorted(peers, key=lambda name: peers[name])
    return [
        Row(case if name == best[0] else f"{case} ({name})", "bytes_per_reading", value, "B", name, peers[name])
        for name in best
    ]


def _smallest(batch: Batch) -> bytes:
    return encode_frame(batch, codec="auto")


def sizes(quick: bool) -> list[Row]:
    rows = []
    count = 20 if quick else 100
    for readings in (64, 256, 1024):
        n = readings // 8
        priors = train_priors([env8(n, 100_000 + seed) for seed in range(max(32, 8192 // n))])
        batches = [env8(n, seed) for seed in range(count)]
        rows += _bytes_per_reading(
            f"env8/{readings}",
            batches,
            lambda batch, p=priors: encode_frame(batch, codec="auto", priors=p),  # type: ignore[misc]
        )[:1]
        rows += _bytes_per_reading(f"env8-bare/{readings}", batches, _smallest)
        for codec in ("bitpack", "range", "plain"):
            total = sum(len(encode_frame(batch, codec=codec)) for batch in batches) / readings / count  # type: ignore[arg-type]
            rows.append(Row(f"env8-bare/{readings} {codec}", "bytes_per_reading", total, "B"))
    rows.append(Row("env8 (entropy of its noise)", "bytes_per_reading", noise_entropy() / 8 / 8, "B"))
    for readings in (64, 1024):
        rows += _bytes_per_reading(f"gps5/{readings}", [gps5(readings // 4, seed) for seed in range(count)], _smallest)
    rows += _bytes_per_reading("buses/64", buses(64, 60 if quick else 400), _smallest)
    return rows


def _column_size(values: Floats) -> int:
    cells = values.view(np.uint64).reshape(1, -1)
    masks = np.ones(cells.shape, np.uint8)
    types = np.array([plans.FLOAT], np.uint8)
    return min(len(compiled.encode_cells(cells, masks, types, codec)) for codec in ("bitpack", "range")) + 1


def series(quick: bool) -> list[Row]:
    """The geometric mean over series of bytes over 8 a value, and the worst single series against pcodec."""
    rows = []
    for size in (64, 256, 1000):
        ours, theirs, squeezed = [], [], []
        for stretches in nab(size, 3 if quick else 12):
            raw = 8 * size * len(stretches)
            ours.append(raw / sum(map(_column_size, stretches)))
            config = pcodec.ChunkConfig()
            theirs.append(raw / sum(len(standalone.simple_compress(part, config)) for part in stretches))
            squeezed.append(raw / sum(len(_squeeze.compress(part.tobytes())) for part in stretches))
        mean, peer, zstd = (float(np.exp(np.mean(np.log(ratios)))) for ratios in (ours, theirs, squeezed))
        worst = max(their / our for our, their in zip(ours, theirs, strict=True))
        rows.append(Row(f"nab/{size}", "geomean_ratio", mean, "x", "pcodec", peer))
        rows.append(Row(f"nab/{size} (zstd)", "geomean_ratio", mean, "x", "zstd", zstd))
        rows.append(Row(f"nab/{size}", "worst_vs_pcodec", worst, "x", "pcodec", 1.0))
    return rows


def speeds(quick: bool) -> list[Row]:
    """Whole frames of 1,024 scans of `env8`; decoding is `decode_many` of 8 frames, the peers' one by one.

    Short runs, many of them, and the best: on a busy machine only a run that fits between two interruptions is true.
    """
    count, repeat = (8, 60) if quick else (8, 300)
    batches = [env8(1024, seed) for seed in range(count)]
    known = {batches[0].schema.fingerprint: batches[0].schema}
    readings = sum(batch.readings for batch in batches)
    peers: dict[str, tuple[float, float]] = {}
    for peer in PEERS:
        some = batches[: 2 if peer.name in ("protobuf+zstd", "json+zstd") else count]
        share = sum(batch.readings for batch in some)
        encoded = [peer.encode(batch) for batch in some]
        times = 5 if peer.name in ("protobuf+zstd", "json+zstd") else repeat
        to = best_seconds(lambda p=peer, s=some: [p.encode(batch) for batch in s], repeat=times)  # type: ignore[misc]
        back = best_seconds(lambda p=peer, e=encoded: [p.decode(data) for data in e], repeat=times)  # type: ignore[misc]
        peers[peer.name] = share / to, share / back
    rows = []
    for codec in ("bitpack", "range", "plain"):
        frames = [encode_frame(batch, codec=codec) for batch in batches]  # type: ignore[arg-type]
        # One by one, so that a run is short.
        to = sum(best_seconds(lambda c=codec, b=b: encode_frame(b, codec=c), repeat=repeat) for b in batches)  # type: ignore[misc]
        back = best_seconds(lambda f=frames: decode_many(f, known), repeat=repeat)  # type: ignore[misc]
        for way, seconds, index in (("encode", to, 0), ("decode", back, 1)):
            for name in ("pcodec", "protobuf+zstd") if codec != "plain" else ("pcodec",):
                case = f"{way}/{codec}" if name == "pcodec" else f"{way}/{codec} ({name})"
                rows.append(Row(case, "readings_per_s", readings / seconds, "1/s", name, peers[name][index]))
    for codec in ("bitpack", "range"):
        small = [encode_frame(env8(8, seed), codec=codec) for seed in range(1000)]  # type: ignore[arg-type]
        whole, python = _per_frame(small, known, repeat // 10)
        case = f"decode/{codec}, 1,000 frames of 8 scans"
        rows.append(Row(case, "microseconds_per_frame", whole, "us"))
        rows.append(Row(case, "python_microseconds_per_frame", python, "us"))
    return rows


def _per_frame(frames: list[bytes], known: dict[bytes, Schema], repeat: int) -> tuple[float, float]:
    """Microseconds of `decode_many` for each frame: in all, and outside the kernels."""
    from tidegate_protocols.codec.kernels import bulk

    inside = 0.0

    def watched(kernel: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            nonlocal inside
            start = time.perf_counter()
            kernel(*arguments)
            inside += time.perf_counter() - start

        return call

    whole = outside = float("inf")
    with mock.patch.multiple(bulk, headers=watched(bulk.headers), columns=watched(bulk.columns)):
        for _ in range(repeat):
            inside = 0.0
            start = time.perf_counter()
            decode_many(frames, known)
            taken = time.perf_counter() - start
            whole, outside = min(whole, taken), min(outside, taken - inside)
    return whole / len(frames) * 1e6, outside / len(frames) * 1e6


_COLD = """
import sys, time
start = time.perf_counter()
from tidegate_protocols.codec import backend
from tidegate_protocols.frame import decode_frame
from tidegate_protocols.schema import Schema
backend.load()
schema = Schema.from_json(bytes.fromhex(sys.argv[1]))
decode_frame(bytes.fromhex(sys.argv[2]), {schema.fingerprint: schema})
print(time.perf_counter() - start)
"""


def cold_start(quick: bool) -> list[Row]:
    """From the first import to the first decoded frame, in a process of its own, kernels compiled before."""
    batch = env8(64, 0)
    words = [batch.schema.canonical_json.hex(), encode_frame(batch, codec="range").hex()]
    taken = [
        float(subprocess.run([sys.executable, "-c", _COLD, *words], capture_output=True, text=True, check=True).stdout)
        for _ in range(3 if quick else 7)
    ]
    return [Row("cold-start", "seconds", min(taken), "s")]


def measure(quick: bool) -> list[Row]:
    backend.load()
    return [*sizes(quick), *series(quick), *speeds(quick), *cold_start(quick)]


if __name__ == "__main__":
    run("codec", measure, packages=["numpy", "numba", "pcodec", "protobuf", "pyarrow", "zstandard"])
