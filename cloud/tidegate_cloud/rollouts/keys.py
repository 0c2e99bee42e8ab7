"""The keys of configuration over the air, in a folder, and the root metadata that says what each may sign.

    FOLDER/root/NAME.pem      signs root metadata; belongs in a safe, on no server. The server never reads it
    FOLDER/online/ROLE-N.pem  sign targets, snapshots and timestamps; on the server that runs `tidegate rollouts`
    FOLDER/N.root.json        root metadata, every version; `1.root.json` is installed with each agent

Rotation makes the next root version: signed by the old root keys and by the new ones, as TUF 1.0, section 6.1, asks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey
from tidegate_protocols.errors import BadInput
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Role, Root

ONLINE = ("targets", "snapshot", "timestamp")
ROOT_DAYS = 3 * 365
_ID = 16  # hex digits of a key's SHA-256 that name it: enough to tell ours apart, and they travel with each signature


@dataclass(frozen=True, slots=True)
class Ring:
    """The online keys, and the newest root that allows them. `signers` by role, as many as its threshold."""

    root: Root
    signers: Mapping[str, tuple[CryptoSigner, ...]]


def create(folder: Path, *, root_keys: int = 1, root_threshold: int = 1, online_threshold: int = 1) -> Path:
    """Make all keys and version 1 of the root. Returns its path. Raises BadInput where there is one already."""
    if not 1 <= root_threshold <= root_keys:
        raise BadInput(f"{root_threshold} of {root_keys} root keys", hint="at least 1, at most all of them")
    if online_threshold < 1:
        raise BadInput(f"{online_threshold} online keys", hint="at least 1")
    if roots(folder):
        raise BadInput("there is a root already", where=str(folder), hint="tidegate config keys rotate changes keys")
    signers = [_new_key(folder / "root", f"root-{number}") for number in range(1, root_keys + 1)]
    root = Root(expires=_in_days(ROOT_DAYS), consistent_snapshot=False)
    _set_role(root, "root", signers, root_threshold)
    for role in ONLINE:
        keys = [_new_key(folder / "online", f"{role}-{number}") for number in range(1, online_threshold + 1)]
        _set_role(root, role, keys, online_threshold)
    return _write_root(folder, root, signers)


def rotate(folder: Path, roles: Sequence[str]) -> Path:
    """Replace the keys of `roles` ("root" or online ones) by new ones, in a new root version. Returns its path.

    Needs the root keys in `folder`. The old keys stay beside, with the ending ``.old``. Raises BadInput.
    """
    current = newest_root(folder)
    old = _root_signers(folder, current)
    root = Root.from_dict(current.to_dict())
    root.version, root.expires = current.version + 1, _in_days(ROOT_DAYS)
    new: list[CryptoSigner] = []
    for role in roles:
        if role not in (*ONLINE, "root"):
            raise BadInput(f"no role {role!r}", hint=f"root, {', '.join(ONLINE)}")
        count, place = len(root.roles[role].keyids), folder / ("root" if role == "root" else "online")
        for file in _key_files(place, role):
            os.replace(file, _aside(file))
        keys = [_new_key(place, f"{role}-{root.version}-{number}") for number in range(1, count + 1)]
        _set_role(root, role, keys, root.roles[role].threshold)
        new += keys if role == "root" else []
    return _write_root(folder, root, [*old, *new])


def ring(folder: Path) -> Ring:
    """The keys that the newest root allows. Raises BadInput, saying which are missing."""
    root = newest_root(folder)
    signers = {}
    for role in ONLINE:
        allowed = root.roles[role]
        found = [signer for file in _key_files(folder / "online", role) if (signer := _load(file, root)) is not None]
        fit = [signer for signer in found if signer.public_key.keyid in allowed.keyids][: allowed.threshold]
        if len(fit) < allowed.threshold:
            raise BadInput(
                f"{len(fit)} of the {allowed.threshold} keys that {role} needs", where=str(folder / "online"),
                hint="copy them from where tidegate config keys init or rotate made them",
            )  # fmt: skip
        signers[role] = tuple(fit)
    return Ring(root, signers)


def roots(folder: Path) -> dict[int, bytes]:
    """Root metadata by version, ascending."""
    found = {int(file.name.split(".")[0]): file for file in folder.glob("*.root.json") if file.name[0].isdigit()}
    return {version: found[version].read_bytes() for version in sorted(found)}


def newest_root(folder: Path) -> Root:
    """The newest root in a folder. Raises BadInput."""
    found = roots(folder)
    if not found:
        raise BadInput("no root metadata", where=str(folder), hint="tidegate config keys init makes it")
    try:
        return Metadata[Root].from_bytes(found[max(found)]).signed
    except RepositoryError as error:
        raise BadInput(f"damaged: {error}", where=str(folder / f"{max(found)}.root.json")) from None


def present(folder: Path) -> frozenset[str]:
    """Ids of the private keys in a folder that its newest root knows."""
    root = newest_root(folder)
    files = [*(folder / "root").glob("*.pem"), *(folder / "online").glob("*.pem")]
    return frozenset(signer.public_key.keyid for file in files if (signer := _load(file, root)) is not None)


def _root_signers(folder: Path, root: Root) -> list[CryptoSigner]:
    files = _key_files(folder / "root", "root")
    found = [signer for file in files if (signer := _load(file, root)) is not None]
    if len(found) < root.roles["root"].threshold:
        raise BadInput(
            f"{len(found)} of the {root.roles['root'].threshold} root keys that it needs", where=str(folder / "root"),
            hint="bring them from where they are kept",
        )  # fmt: skip
    return found


def _set_role(root: Root, role: str, signers: Sequence[CryptoSigner], threshold: int) -> None:
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    root.roles[role] = Role([], threshold)
    for signer in signers:
        root.add_key(signer.public_key, role)


def _write_root(folder: Path, root: Root, signers: Sequence[CryptoSigner]) -> Path:
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    path = folder / f"{root.version}.root.json"
    path.write_bytes(metadata.to_bytes())
    return path


def _new_key(place: Path, name: str) -> CryptoSigner:
    signer = CryptoSigner.generate_ed25519()
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Nobody else may read it, not even for a moment.
    descriptor = os.open(place / f"{name}.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(signer.private_bytes)
    return _named(signer)


def _named(signer: CryptoSigner) -> CryptoSigner:
    key = signer.public_key
    short = SSlibKey(key.keyid[:_ID], key.keytype, key.scheme, key.keyval)
    return CryptoSigner(signer._private_key, short)


def _load(file: Path, root: Root) -> CryptoSigner | None:
    """The key in a file, or None when this root knows nothing of it."""
    try:
        signer = _named(CryptoSigner(load_pem_private_key(file.read_bytes(), None)))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"cannot be read as a private key: {error}", where=str(file)) from None
    return signer if signer.public_key.keyid in root.keys else None


def _key_files(place: Path, role: str) -> list[Path]:
    return sorted(place.glob(f"{role}-*.pem"))


def _aside(file: Path) -> Path:
    return file.with_name(file.name + ".old")


def _in_days(days: int) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
