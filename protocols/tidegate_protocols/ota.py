"""Configuration over the air: what travels between the director and an agent, and how it is cut.

Three topics, all of them readable by anybody: what counts is signed (The Update Framework, TUF 1.0).

device.trust     root metadata, key ``root/N``: who may sign, from version 1 on
device.desired   key `desired_key(agent)`: one `Desired` per agent: a TUF repository of that agent alone (timestamp,
                 snapshot, targets), after Uptane's director. One device reads nothing of the others' metadata
device.files     contents, cut into chunks, key ``SHA256/NUMBER``: content-addressed, shared by all who want them

What an agent says of itself goes to device.reported, same key, as a `Reported`.

Limits: a `Desired` has at most `DESIRED_MAX` bytes unpacked, a file `FILE_MAX` bytes, an agent `FILES_MAX` files.
"""

from __future__ import annotations

import re
import zlib
from typing import Literal

import msgspec

from .errors import BadInput
from .ids import check_device_id

DESIRED_MAX = 64 << 10
FILE_MAX = 8 << 20
FILES_MAX = 32
CHUNK = 256 << 10
REPORTED_MAX = 16 << 10
CONFIG = "config.toml"

_FILE_NAME = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# What every metadata file of ours is made of. zlib refers to it, so that a set of three travels in less than 1 kB.
_WORDS = (
    b'{"signatures":[{"keyid":"","sig":""}],"signed":{"_type":"snapshot","expires":"2026-11-25T00:00:00Z",'
    b'"meta":{"targets.json":{"hashes":{"sha256":""},"length":,"version":}},"spec_version":"1.0.31","version":'
    b'"_type":"targets","custom":{"rollout":"R-","number":},"targets":{"/config.toml":{"hashes":{"sha256":""},"length":'
    b'"_type":"timestamp","meta":{"snapshot.json":{"hashes":{"sha256":""},"length":,"version":1}}'
)


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a chunk of a file was last seen on device.files. A hint and no promise: it is not signed."""

    partition: int
    offset: int


class Desired(msgspec.Struct, frozen=True, array_like=True):
    """What an agent should run. `number` only grows; the same number is in the signed targets.

    stamp                          version of the timestamp metadata: one more each time that any of it is signed anew
    timestamp, snapshot, targets   TUF metadata of this agent, as JSON bytes
    places                         by SHA-256 in hex, where each chunk of the file is, in order
    """

    agent: str
    number: int
    stamp: int
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    places: dict[str, list[Place]] = {}

    def encode(self) -> bytes:
        """As the value of a record."""
        packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_WORDS)
        return packer.compress(msgspec.msgpack.encode(self)) + packer.flush()


def decode_desired(data: bytes) -> Desired:
    """Read a record of device.desired. Raises BadInput. Nothing of it may be believed yet: it is not verified."""
    unpacker = zlib.decompressobj(-15, zdict=_WORDS)
    try:
        plain = unpacker.decompress(data, DESIRED_MAX)
        if not unpacker.eof:
            raise BadInput(f"more than {DESIRED_MAX} bytes, or cut short", where="desired")
        return msgspec.msgpack.decode(plain, type=Desired)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise BadInput(f"damaged: {error}", where="desired") from None


State = Literal["applying", "running", "refused", "rolled-back"]


class Reported(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent runs and how it is. JSON.

    number        of the last desired state that it has dealt with, whatever came of it; 0: none
    state         applying: being switched to or in probation; running: taken, and healthy through its probation;
                  refused: not installed (`why`), the last good one goes on; rolled-back: installed, found bad (`why`)
                  and undone
    running       the desired number whose configuration runs now; 0: the file that was installed by hand
    config        SHA-256 of the configuration that runs, hex
    since_us      when `state` began, microseconds since 1970 UTC, by the agent's clock
    heard_us      when it was written
    healthy       whether all that runs is well now; if not, `trouble` says what
    want          it asks to be told anew: a new disk, or a record that compaction took
    """

    agent: str
    number: int
    state: State
    running: int = 0
    config: str = ""
    since_us: int = 0
    heard_us: int = 0
    healthy: bool = True
    trouble: str = ""
    why: str = ""
    version: str = ""
    free_bytes: int = 0
    clock: Literal["synchronised", "estimated", "unknown"] = "unknown"
    epoch: int = 0
    want: bool = False

    def encode(self) -> bytes:
        """As the value of a record."""
        return msgspec.json.encode(self)


def decode_reported(data: bytes) -> Reported:
    """Read a record of device.reported. Raises BadInput."""
    if len(data) > REPORTED_MAX:
        raise BadInput(f"{len(data)} bytes; at most {REPORTED_MAX} are allowed", where="reported")
    try:
        found = msgspec.json.decode(data, type=Reported)
    except msgspec.MsgspecError as error:
        raise BadInput(f"damaged: {error}", where="reported") from None
    check_device_id(found.agent)
    return found


class Claim(msgspec.Struct, frozen=True):
    """On device.reported, under a device's id: the last epoch of its scans, and whose spool and agent. JSON."""

    epoch: int
    spool: str = ""
    agent: str = ""

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


def decode_claim(data: bytes) -> Claim:
    """Read a device's record of device.reported. Raises BadInput."""
    try:
        return msgspec.json.decode(data, type=Claim)
    except msgspec.MsgspecError as error:
        raise BadInput(f"damaged: {error}", where="claim") from None


def desired_key(agent: str) -> bytes:
    """The key of an agent's records. No device id has a slash, so it is nobody's but the agent's."""
    return f"{check_device_id(agent)}/agent".encode()


def agent_of(key: bytes) -> str | None:
    """The agent whose key this is; None when it is something else's."""
    name, slash, rest = key.partition(b"/")
    return name.decode("ascii", "replace") if slash and rest == b"agent" else None


def root_key(version: int) -> bytes:
    """The key of a root metadata file on device.trust."""
    return f"root/{version}".encode()


def root_version(key: bytes) -> int | None:
    """The root version of a key of device.trust; None when it is none."""
    head, _, tail = key.partition(b"/")
    return int(tail) if head == b"root" and tail.isdigit() and len(tail) < 10 else None


def target_path(agent: str, name: str = CONFIG) -> str:
    """The TUF target path of an agent's file. The agent's name is in it, so nobody else's can be passed off as its."""
    if _FILE_NAME.fullmatch(name) is None or name in (".", ".."):
        raise BadInput(f"{name!r} is not a file name", hint="1 to 64 characters of A-Z a-z 0-9 . _ - are allowed")
    return f"{check_device_id(agent)}/{name}"


def chunk_key(sha256: str, number: int) -> bytes:
    """The key of a chunk on device.files."""
    if _SHA256.fullmatch(sha256) is None:
        raise BadInput(f"{sha256[:80]!r} is not a SHA-256 in hex")
    return f"{sha256}/{number}".encode()


def chunks_of(content: bytes) -> list[bytes]:
    """A file's content in pieces, one record each; an empty file is one empty piece. Raises BadInput above FILE_MAX."""
    if len(content) > FILE_MAX:
        raise BadInput(f"{len(content)} bytes; at most {FILE_MAX} are allowed")
    return [content[start : start + CHUNK] for start in range(0, max(1, len(content)), CHUNK)]
