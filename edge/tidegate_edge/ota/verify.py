"""Verify a `Desired` by TUF's client workflow, with python-tuf: ``python -m tidegate_edge.ota.verify FOLDER AGENT``.

Standard input: a `Question` in MessagePack. Standard output: an `Answer` in JSON. FOLDER keeps what TUF must remember
between two runs: the newest root, timestamp, snapshot and targets that were believed, so that nothing older ever is.

The repository that TUF sees is the one record: ``timestamp.json``, ``snapshot.json``, ``targets.json`` out of it, and
root metadata by version from device.trust.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import CONFIG, FILE_MAX, FILES_MAX, Desired, decode_desired, target_path
from tuf.api import exceptions
from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

Refusal = Literal["", "damaged", "wrong-agent", "expired", "unsigned", "older", "mixed", "too-large"]

_BASE = "kafka:///"
# Longest that each role may be. A root holds every key; the rest is about one agent.
_LIMITS = UpdaterConfig(
    max_root_rotations=256, max_delegations=0, root_max_length=32 << 10, timestamp_max_length=8 << 10,
    snapshot_max_length=8 << 10, targets_max_length=48 << 10,
)  # fmt: skip


class Question(msgspec.Struct, array_like=True):
    """`desired`: a record of device.desired. `bootstrap`: the root that was installed with the agent.

    `roots`: newer ones by version, as device.trust has them. `number`: of the last desired state taken.
    """

    desired: bytes
    bootstrap: bytes
    roots: dict[int, bytes]
    number: int


class File(msgspec.Struct):
    """A file that the agent should have: its SHA-256 in hex and its length in bytes."""

    sha256: str
    length: int


class Answer(msgspec.Struct):
    """What may be installed, or `refusal` and `why`. `files` by name; `CONFIG` is always among them."""

    refusal: Refusal = ""
    why: str = ""
    number: int = 0
    root: int = 0
    files: dict[str, File] = {}


class _Record(FetcherInterface):
    """Serves the parts of one record as if they were files of a server."""

    def __init__(self, desired: Desired, roots: dict[int, bytes]) -> None:
        self._parts = {f"{version}.root.json": root for version, root in roots.items()} | {
            "timestamp.json": desired.timestamp, "snapshot.json": desired.snapshot, "targets.json": desired.targets,
        }  # fmt: skip

    def _fetch(self, url: str) -> Iterator[bytes]:
        part = self._parts.get(url.removeprefix(_BASE))
        if part is None:
            raise exceptions.DownloadHTTPError(f"no {url.removeprefix(_BASE)}", 404)
        return iter((part,))


def verify(folder: Path, agent: str, question: Question) -> Answer:
    """What `question` allows `agent` to install. Writes to `folder` what was believed. Raises OSError."""
    try:
        desired = decode_desired(question.desired)
    except BadInput as error:
        return Answer("damaged", str(error))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        updater = Updater(
            str(folder), _BASE, fetcher=_Record(desired, question.roots), config=_LIMITS, bootstrap=question.bootstrap
        )
        updater.refresh()
        targets = Metadata[Targets].from_file(str(folder / "targets.json")).signed
        return _allowed(agent, question, targets, Metadata.from_file(str(folder / "root.json")).signed.version)
    except (exceptions.RepositoryError, exceptions.DownloadError) as error:
        return Answer(*_refusal(error), desired.number)


def _allowed(agent: str, question: Question, targets: Targets, root: int) -> Answer:
    number = targets.unrecognized_fields.get("custom", {}).get("number")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        return Answer("damaged", "the signed targets have no number", root=root)
    if number < question.number:
        return Answer("older", f"number {number} is below {question.number}, which was taken before", number, root)
    if len(targets.targets) > FILES_MAX:
        return Answer("too-large", f"{len(targets.targets)} files; at most {FILES_MAX} are allowed", number, root)
    files = {}
    for path, target in targets.targets.items():
        owner, _, name = path.partition("/")
        if owner != agent:
            return Answer("wrong-agent", f"signed for {owner[:80]!r}, this is {agent!r}", number, root)
        try:
            target_path(owner, name)
        except BadInput as error:
            return Answer("damaged", str(error), number, root)
        if "sha256" not in target.hashes or not 0 <= target.length <= FILE_MAX:
            return Answer("too-large", f"{name}: {target.length} bytes, or no SHA-256", number, root)
        files[name] = File(target.hashes["sha256"], target.length)
    if CONFIG not in files:
        return Answer("damaged", f"no {target_path(agent)} among the signed files", number, root)
    return Answer("", "", number, root, files)


def _refusal(error: Exception) -> tuple[Refusal, str]:
    """In our words. TUF's own come after, for those who know it."""
    said = str(error)
    match error:
        case exceptions.ExpiredMetadataError():
            return "expired", f"its signature is past its date, or this clock is wrong: {said}"
        case exceptions.UnsignedMetadataError():
            return "unsigned", f"not signed by those who may: {said}"
        case exceptions.BadVersionNumberError() if "snapshot" not in said and "targets" not in said:
            return "older", f"older than what was seen before: {said}"
        case exceptions.BadVersionNumberError() | exceptions.LengthOrHashMismatchError():
            return "mixed", f"parts that do not belong together: {said}"
        case exceptions.DownloadLengthMismatchError():
            return "too-large", f"longer than it may be: {said}"
    return "damaged", said


def main() -> None:
    """Answer one question."""
    folder, agent = Path(sys.argv[1]), sys.argv[2]
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(verify(folder, agent, question)))


if __name__ == "__main__":
    main()
