"""`tidegate frame`: headers and scans of frames, from files and from Kafka, and one sentence where there are none."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner, Result
from tidegate_cli.main import tidegate
from tidegate_protocols.batch import Batch, Lane, batch_from_rows
from tidegate_protocols.codec import backend
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.schema import Channel, Schema

from tests.support.kafka import KafkaNode, produce

SCHEMA = Schema("engine", (Channel("temp", unit="Cel"), Channel("count", "int64"), Channel("on", "bool")))
BATCH = batch_from_rows(
    "bus-7", SCHEMA,
    [(1_700_000_000_000_000, (21.5, 7, True)), (1_700_000_001_000_000, (None, 8, None)),
     (1_700_000_002_000_003, (float("nan"), None, False))],
    epoch=3, seq=1000, lane=Lane.BACKLOG,
)  # fmt: skip


def call(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(tidegate, ["frame", *arguments], input=stdin)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "one.frame").write_bytes(encode_frame(BATCH))
    (tmp_path / "schema.json").write_bytes(SCHEMA.canonical_json)
    return str(tmp_path / "one.frame"), str(tmp_path / "schema.json")


def test_inspect_says_whose_scans_these_are(files: tuple[str, str]) -> None:
    done = call("inspect", "--json", files[0])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["device"], told["epoch"], told["seq"], told["scans"]) == ("bus-7", 3, 1000, 3)
    assert (told["lane"], told["codec"], told["fingerprint"]) == ("backlog", "plain", SCHEMA.fingerprint.hex())
    assert "bus-7" in call("inspect", "-", stdin=encode_frame(BATCH)).output


def test_decode_to_csv_leaves_nulls_empty(files: tuple[str, str]) -> None:
    done = call("decode", files[0], "--schema", files[1])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.output)))
    assert [row["seq"] for row in rows] == ["1000", "1001", "1002"]
    assert [row["temp"] for row in rows] == ["21.5", "", "nan"]
    assert [row["count"] for row in rows] == ["7", "8", ""]
    assert [row["on"] for row in rows] == ["True", "", "False"]


def test_decode_to_json_tells_nan_from_null(files: tuple[str, str]) -> None:
    done = call("decode", files[0], "--schema", files[1], "--to", "json")
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert [row["temp"] for row in rows] == [21.5, None, "nan"]
    assert rows[2]["ts"] == 1_700_000_002_000_003


def test_decode_to_parquet_keeps_types_and_nulls(files: tuple[str, str], tmp_path: Path) -> None:
    target = tmp_path / "scans.parquet"
    done = call("decode", files[0], "--schema", files[1], "--to", "parquet", "-o", str(target))
    assert done.exit_code == 0, done.output
    table = pq.read_table(target)
    assert table.column("count").to_pylist() == [7, 8, None]
    assert table.column("on").to_pylist() == [True, None, False]
    assert str(table.schema.field("ts").type) == "timestamp[us, tz=UTC]"


def test_damage_is_one_sentence_with_the_place(files: tuple[str, str], tmp_path: Path) -> None:
    spoilt = bytearray(encode_frame(BATCH))
    spoilt[30] ^= 1
    (tmp_path / "spoilt.frame").write_bytes(spoilt)
    for arguments in (("inspect",), ("decode", "--schema", files[1])):
        done = call(*arguments, str(tmp_path / "spoilt.frame"))
        assert done.exit_code == 1
        assert "spoilt.frame" in done.output
        assert "checksum" in done.output
        assert "Traceback" not in done.output


def test_what_is_missing_is_said(files: tuple[str, str], tmp_path: Path) -> None:
    assert "--schema" in call("decode", files[0]).output
    assert "FILE" in call("inspect").output
    absent = call("inspect", str(tmp_path / "absent"))
    assert absent.exit_code != 0
    assert "absent" in absent.output
    other = Schema("other", (Channel("x"),))
    (tmp_path / "other.json").write_bytes(other.canonical_json)
    assert "has not been announced" in call("decode", files[0], "--schema", str(tmp_path / "other.json")).output


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_channels_called_like_a_frames_own_columns_are_kept_apart(form: str, tmp_path: Path) -> None:
    schema = Schema("odd", (Channel("seq"), Channel("device", "int64"), Channel("_seq"), Channel("epoch", "int64")))
    batch = batch_from_rows("bus-7", schema, [(5, (1.5, 2, 3.5, 4))], epoch=6, seq=7)
    (tmp_path / "one.frame").write_bytes(encode_frame(batch))
    (tmp_path / "schema.json").write_bytes(schema.canonical_json)
    target = tmp_path / "scans"
    done = call(
        "decode", str(tmp_path / "one.frame"), "--schema", str(tmp_path / "schema.json"), "--to", form,
        "-o", str(target),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    if form == "csv":
        row = next(csv.DictReader(io.StringIO(target.read_text())))
    elif form == "json":
        row = json.loads(target.read_text())
    else:
        row = pq.read_table(target).to_pylist()[0]
    del row["ts"]
    assert {name: str(value) for name, value in row.items()} == {
        "device": "bus-7", "epoch": "6", "seq": "7",
        "channel.seq": "1.5", "channel.device": "2", "_seq": "3.5", "channel.epoch": "4",
    }  # fmt: skip


def test_what_cannot_be_written_is_one_sentence(files: tuple[str, str], tmp_path: Path) -> None:
    target = tmp_path / "nodir" / "x"
    done = call("decode", files[0], "--schema", files[1], "-o", str(target))
    assert (done.exit_code, done.output) == (1, f"Error: {target} cannot be written: No such file or directory\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments", [("inspect",), ("inspect", "--json"), ("decode", "--to", "csv"), ("decode", "--to", "parquet")]
)
def test_a_full_standard_output_is_one_sentence(arguments: tuple[str, ...], files: tuple[str, str]) -> None:
    schema = ("--schema", files[1]) if arguments[0] == "decode" else ()
    program = "from tidegate_cli.main import tidegate; tidegate()"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program, "frame", *arguments, files[0], *schema],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "Error: standard output cannot be written: No space left on device\n")


def test_frames_come_from_a_topic_with_the_schemas_announced_there(fresh_kafka: KafkaNode) -> None:
    bootstrap = fresh_kafka.bootstrap
    produce(bootstrap, "device.schemas", [(SCHEMA.fingerprint.hex(), SCHEMA.canonical_json)])
    produce(
        bootstrap, "telemetry.frames",
        [("bus-7", encode_frame(BATCH)), ("bus-8", b"nonsense"), ("bus-7", encode_frame(BATCH.slice(1, 3)))],
    )  # fmt: skip
    source = ["--topic", "telemetry.frames", "--bootstrap", bootstrap, "--device", "bus-7"]
    done = CliRunner().invoke(tidegate, ["frame", "inspect", "--json", *source])
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(row["seq"], row["scans"]) for row in told] == [(1000, 3), (1001, 2)]
    done = CliRunner().invoke(tidegate, ["frame", "decode", *source, "--last", "1"])
    assert [row["seq"] for row in csv.DictReader(io.StringIO(done.stdout))] == ["1001", "1002"]
    none = CliRunner().invoke(tidegate, ["frame", "inspect", *source[:-1], "bus-9"])
    assert none.exit_code == 1
    assert "no frame of bus-9" in none.output


def _noisy(seq: int, n: int = 20) -> Batch:
    rng = np.random.default_rng(seq)
    columns = np.round(rng.normal(20, 1, n), 2), np.arange(n, dtype=np.int64) + seq, np.ones(n, np.bool_)
    return Batch("bus-7", SCHEMA, 1, seq * n, 10**15 + np.arange(n) * 1_000_000, columns, (None,) * 3)


def test_priors_are_learnt_from_files(tmp_path: Path) -> None:
    backend.load()
    paths = []
    for i in range(10):
        (tmp_path / f"{i}.frame").write_bytes(encode_frame(_noisy(i), codec="range"))
        paths.append(str(tmp_path / f"{i}.frame"))
    (tmp_path / "schema.json").write_bytes(SCHEMA.canonical_json)
    target = tmp_path / "priors.json"
    done = call("train", *paths, "--schema", str(tmp_path / "schema.json"), "-o", str(target))
    assert done.exit_code == 0, done.output
    priors = Priors.from_json(target.read_bytes())
    assert (priors.fingerprint, priors.version) == (SCHEMA.fingerprint, 1)
    assert "learnt from 8 frames, 2 others have" in done.output
    assert priors.name.hex() in done.output
    frame = encode_frame(_noisy(99), codec="range", priors=priors)
    (tmp_path / "later.frame").write_bytes(frame)
    source = [str(tmp_path / "later.frame"), "--schema", str(tmp_path / "schema.json")]
    assert call("decode", *source).exit_code == 1
    done = call("decode", *source, "--priors", str(target))
    assert [row["seq"] for row in csv.DictReader(io.StringIO(done.stdout))] == [str(99 * 20 + i) for i in range(20)]
    missing = call("train", *paths, "-o", str(target))
    assert "need --schema" in missing.output
    (tmp_path / "junk").write_bytes(b"junk")
    junk = call("train", str(tmp_path / "junk"), "--schema", str(tmp_path / "schema.json"), "-o", str(target))
    assert junk.exit_code == 1


def test_priors_are_learnt_from_a_topic_announced_and_found_by_whoever_decodes(
    fresh_kafka: KafkaNode, tmp_path: Path
) -> None:
    backend.load()
    bootstrap = fresh_kafka.bootstrap
    produce(bootstrap, "device.schemas", [(SCHEMA.fingerprint.hex(), SCHEMA.canonical_json)])
    produce(bootstrap, "telemetry.frames", [("bus-7", encode_frame(_noisy(i))) for i in range(10)])
    target = str(tmp_path / "priors.json")
    source = ["--topic", "telemetry.frames", "--bootstrap", bootstrap]
    for version in (1, 2):
        done = call("train", *source, "--last", str(5 + version), "-o", target, "--announce")
        assert done.exit_code == 0, done.output
        assert f"version {version}" in done.output
    priors = Priors.from_json(Path(target).read_bytes())
    produce(bootstrap, "telemetry.frames", [("bus-7", encode_frame(_noisy(11), codec="range", priors=priors))])
    done = call("decode", *source, "--last", "1")
    assert [row["seq"] for row in csv.DictReader(io.StringIO(done.stdout))] == [str(11 * 20 + i) for i in range(20)]
