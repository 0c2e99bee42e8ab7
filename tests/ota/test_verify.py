"""TUF's attacks on one agent, each refused with its reason, and what must go on working beside them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.rollouts import keys
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import DESIRED_MAX, Desired, Place, decode_desired
from tuf.api.metadata import Metadata, Targets

from .repository import FILES, SHA, Pair, now_us

DAY_US = 86_400_000_000


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_what_the_director_signed_may_be_installed(pair: Pair) -> None:
    answer = pair.verify(pair.sign(1))
    assert (answer.refusal, answer.number, answer.root) == ("", 1, 1)
    assert {name: (file.sha256, file.length) for name, file in answer.files.items()} == FILES


def test_a_renewal_says_the_same_again(pair: Pair) -> None:
    desired = pair.sign(3)
    pair.verify(desired)
    answer = pair.verify(pair.director.renew(desired, now_us=now_us()))
    assert (answer.refusal, answer.number) == ("", 3)


def test_arbitrary_content_is_not_signed_by_those_who_may(pair: Pair, tmp_path: Path) -> None:
    stranger = Pair(tmp_path / "stranger")
    assert pair.verify(stranger.sign(1)).refusal == "unsigned"


def test_content_changed_after_signing_is_refused(pair: Pair) -> None:
    desired = pair.sign(1)
    other = desired.targets.replace(SHA.encode(), b"0" * 64)
    assert pair.verify(msgspec.structs.replace(desired, targets=other)).refusal == "unsigned"


def test_a_roll_back_to_an_older_set_is_refused(pair: Pair) -> None:
    old = pair.sign(1)
    pair.verify(old)
    assert pair.verify(pair.sign(2)).refusal == ""
    assert pair.verify(old).refusal == "older"


def test_a_lower_number_under_a_newer_signature_is_refused(pair: Pair) -> None:
    pair.verify(pair.sign(5))
    pair.number = 5
    answer = pair.verify(pair.sign(4, stamp=9))
    assert (answer.refusal, answer.number) == ("older", 4)


def test_a_freeze_shows_by_the_date_of_the_signature(pair: Pair) -> None:
    old = pair.sign(1, at_us=now_us() - 15 * DAY_US)
    assert pair.verify(old).refusal == "expired"
    assert pair.verify(pair.director.renew(old, now_us=now_us())).refusal == ""


def test_parts_of_two_sets_do_not_mix(pair: Pair) -> None:
    first, second = pair.sign(1), pair.sign(2)
    assert pair.verify(msgspec.structs.replace(second, targets=first.targets)).refusal == "mixed"
    pair.memory = pair.memory / "another"  # the first attempt has believed the second snapshot
    assert pair.verify(msgspec.structs.replace(second, snapshot=first.snapshot)).refusal == "mixed"


def test_endless_data_ends(pair: Pair) -> None:
    desired = pair.sign(1)
    long = msgspec.structs.replace(desired, timestamp=desired.timestamp + b" " * 20_000)
    assert pair.verify(long).refusal == "too-large"
    bomb = msgspec.structs.replace(desired, timestamp=b" " * (DESIRED_MAX + 1))
    assert pair.verify(bomb).refusal == "damaged"


def test_one_key_below_the_threshold_is_not_enough(tmp_path: Path) -> None:
    pair = Pair(tmp_path, online_threshold=2)
    desired = pair.sign(1)
    assert pair.verify(desired).refusal == ""
    # Whoever stole one of the two keys signs what they like.
    stolen = keys.ring(pair.keys).signers["targets"][0]
    targets = Metadata[Targets].from_bytes(desired.targets)
    targets.signed.unrecognized_fields["custom"]["number"] = 2
    targets.signatures.clear()
    targets.sign(stolen)
    forged = msgspec.structs.replace(pair.sign(2), targets=targets.to_bytes())
    assert pair.verify(forged).refusal == "unsigned"


def test_what_is_signed_for_another_agent_is_refused_by_name(pair: Pair) -> None:
    answer = pair.verify(pair.sign(1, agent="truck-8"))
    assert answer.refusal == "wrong-agent"
    assert "truck-8" in answer.why


def test_rotated_keys_are_followed_and_old_ones_no_longer_believed(pair: Pair) -> None:
    pair.verify(pair.sign(1))
    with_old_keys = pair.sign(2)
    keys.rotate(pair.keys, ["targets", "timestamp", "snapshot", "root"])
    assert pair.verify(with_old_keys).refusal == "unsigned"
    answer = pair.verify(pair.sign(3))
    assert (answer.refusal, answer.root) == ("", 2)


def test_a_root_that_the_old_root_did_not_sign_is_not_followed(pair: Pair, tmp_path: Path) -> None:
    stranger = Pair(tmp_path / "stranger")
    keys.rotate(stranger.keys, ["root"])
    pair.verify(pair.sign(1))
    forged = keys.roots(stranger.keys)[2]
    (pair.keys / "2.root.json").write_bytes(forged)
    assert pair.verify(stranger.sign(2)).refusal == "unsigned"


def test_an_expired_root_installs_nothing(pair: Pair) -> None:
    root = json.loads(pair.bootstrap)
    signer = keys._root_signers(pair.keys, keys.newest_root(pair.keys))[0]
    metadata = Metadata.from_bytes(json.dumps(root).encode())
    metadata.signed.expires = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    metadata.signatures.clear()
    metadata.sign(signer)
    pair.bootstrap = metadata.to_bytes()
    (pair.keys / "1.root.json").write_bytes(pair.bootstrap)
    assert pair.verify(pair.sign(1)).refusal == "expired"


def test_memory_that_a_power_cut_spoilt_is_read_anew(pair: Pair) -> None:
    pair.verify(pair.sign(1))
    for name in ("timestamp.json", "snapshot.json", "targets.json"):
        (pair.memory / name).write_bytes(b"")
    assert pair.verify(pair.sign(2)).refusal == ""


@given(st.binary(max_size=400))
def test_no_bytes_are_believed_that_nobody_signed(data: bytes) -> None:
    with pytest.raises(BadInput):
        decode_desired(data)


@given(st.integers(0, 440), st.integers(1, 255))
def test_a_damaged_record_is_refused_and_nothing_else_happens(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    pair = Pair(tmp_path_factory.mktemp("pair"))
    value = bytearray(pair.sign(1).encode())
    value[place % len(value)] ^= flip
    answer = pair.verify(bytes(value))
    if answer.refusal == "":  # what was hit is not signed: a hint where the file is, or the stamp beside the metadata
        assert answer.files["config.toml"].sha256 == SHA
        assert answer.number == 1


def test_a_record_is_small_and_comes_back(pair: Pair) -> None:
    desired = msgspec.structs.replace(pair.sign(7), places={SHA: [Place(0, 12)]})
    assert decode_desired(desired.encode()) == desired
    assert isinstance(desired, Desired)
    assert len(desired.encode()) < 1_000
