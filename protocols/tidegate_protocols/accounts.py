"""Who may use the console: users, sessions, one-time links, tokens for programs. Compacted topic `console.accounts`.

Keys are a kind, a slash and a name: ``user/NAME``, ``session/DIGEST``, ``link/DIGEST``, ``token/ID``. A tombstone
removes. Secrets are never there, only their digests. `console.audit` holds what was asked and by whom.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .avro import AvroCodec

Role = Literal["viewer", "operator", "admin"]
Permission = Literal["read", "act", "edit", "admin"]

PERMISSIONS: dict[str, frozenset[str]] = {
    "viewer": frozenset({"read"}),
    "operator": frozenset({"read", "act", "edit"}),
    "admin": frozenset({"read", "act", "edit", "admin"}),
}
"""What each role may: `read` all that is shown, `act` on alerts, `edit` what the fleet is, `admin` its people."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person. See ``schemas/User.avsc``."""

    name: str
    full_name: str = ""
    role: Role
    password: str = ""
    sessions_from_us: int = 0
    changed_us: int = 0


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A person who is logged in. See ``schemas/Session.avsc``."""

    user: str
    created_us: int
    expires_us: int
    address: str = ""
    agent: str = ""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A link that logs a person in once. See ``schemas/Link.avsc``."""

    user: str
    created_us: int
    expires_us: int
    claim: str = ""


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """What a program shows instead of a password. See ``schemas/ApiToken.avsc``."""

    id: str
    name: str
    user: str
    permissions: list[Permission]
    digest: str
    created_us: int
    expires_us: int | None = None


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was asked of a console, and the answer. See ``schemas/AuditLine.avsc``."""

    ts_us: int
    who: str
    via: str
    address: str
    action: str
    status: int
    detail: str = ""


USER = AvroCodec("User", User)
SESSION = AvroCodec("Session", Session)
LINK = AvroCodec("Link", Link)
API_TOKEN = AvroCodec("ApiToken", ApiToken)
AUDIT_LINE = AvroCodec("AuditLine", AuditLine)
