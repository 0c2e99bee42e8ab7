"""Accounts as `console.accounts` has them: the reading thread takes records in, the event loop asks and writes.

What is written counts once it has been read back: two consoles that give the same one-time link away at the same moment
both write a claim, and the one that Kafka put first has it.
"""

from __future__ import annotations

import hmac
import threading
from dataclasses import dataclass
from typing import Any

import msgspec
from tidegate_protocols.accounts import (
    API_TOKEN,
    LINK,
    PERMISSIONS,
    SESSION,
    USER,
    ApiToken,
    Link,
    Session,
    User,
)
from tidegate_protocols.avro import AvroCodec
from tidegate_protocols.topics import ACCOUNTS

from tidegate_cloud.clock import Clock

from ..writer import Writer
from . import passwords

SESSION_US = 7 * 86_400_000_000
LINK_US = 3_600_000_000
_CODECS: dict[str, AvroCodec[Any]] = {"user": USER, "session": SESSION, "link": LINK, "token": API_TOKEN}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whoever asks. `via`: session, link or ``token NAME``; `key`: of the session or token among the accounts."""

    user: str
    full_name: str
    role: str
    permissions: frozenset[str]
    via: str
    key: str
    expires_us: int | None
    csrf: str = ""
    password_due: bool = False

    @property
    def who(self) -> str:
        """As alerts and their log name it."""
        return self.full_name or self.user


class Accounts:
    """See the module's docstring. `take` and `clear` are the reading thread's."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._of: dict[str, dict[str, Any]] = {kind: {} for kind in _CODECS}
        self._lock = threading.Lock()
        self._offset = -1

    def clear(self) -> None:
        """Forget everything: it will be read again."""
        with self._lock:
            for records in self._of.values():
                records.clear()
            self._offset = -1

    def take(self, key: str, value: bytes | None, offset: int) -> None:
        """A record of the topic. Raises BadInput, and leaves what was there."""
        kind, _, name = key.partition("/")
        with self._lock:
            self._offset = offset
            records = self._of.get(kind)
            if records is None:
                return
            if value is None:
                records.pop(name, None)
                return
            record = _CODECS[kind].decode(value)
            known = records.get(name)
            if isinstance(known, Link) and known.claim:
                return  # the first claim stands
            records[name] = record

    def users(self) -> list[User]:
        with self._lock:
            return [self._of["user"][name] for name in sorted(self._of["user"])]

    def user(self, name: str) -> User | None:
        found: User | None = self._of["user"].get(name)
        return found

    def tokens(self, user: str | None = None) -> list[ApiToken]:
        """Tokens of a user, or all of them."""
        with self._lock:
            return [token for token in self._of["token"].values() if user is None or token.user == user]

    def sessions(self, user: str) -> list[tuple[str, Session]]:
        with self._lock:
            return [(key, session) for key, session in self._of["session"].items() if session.user == user]

    def by_cookie(self, cookie: str) -> Identity | None:
        """Who is logged in under a cookie."""
        key = passwords.digest(cookie)
        session: Session | None = self._of["session"].get(key)
        if session is None or session.expires_us <= self._clock.now_us():
            return None
        user = self.user(session.user)
        if user is None or session.created_us < user.sessions_from_us:
            return None
        return Identity(
            user.name, user.full_name, user.role, PERMISSIONS[user.role], "session", key, session.expires_us,
            csrf_of(cookie), not user.password,
        )  # fmt: skip

    def by_bearer(self, text: str) -> Identity | None:
        """Who shows this token: ``tg_ID_SECRET``. It may what it says, as far as its user may."""
        mark, _, rest = text.partition("_")
        name, _, secret = rest.partition("_")
        token: ApiToken | None = self._of["token"].get(name) if mark == "tg" else None
        if token is None or not hmac.compare_digest(token.digest, passwords.digest(secret)):
            return None
        user = self.user(token.user)
        if user is None or token.created_us < user.sessions_from_us:
            return None
        if token.expires_us is not None and token.expires_us <= self._clock.now_us():
            return None
        may = PERMISSIONS[user.role] & frozenset(token.permissions)
        return Identity(
            user.name, user.full_name, user.role, may, f"token {token.name}", name, token.expires_us
        )  # fmt: skip

    def is_good(self, who: Identity) -> bool:
        """Whether whoever was let in would be let in again: asked of streams, which outlive their requests."""
        kind = "session" if who.via == "session" else "token"
        record = self._of[kind].get(who.key)
        user = self.user(who.user)
        return (
            record is not None
            and user is not None
            and user.role == who.role
            and record.created_us >= user.sessions_from_us
            and (who.expires_us is None or who.expires_us > self._clock.now_us())
        )

    async def begin_session(self, user: str, address: str, agent: str) -> str:
        """Log a person in; returns the cookie. Raises NotSaved."""
        cookie, now_us = passwords.secret(), self._clock.now_us()
        session = Session(
            user=user, created_us=now_us, expires_us=now_us + SESSION_US, address=address[:64], agent=agent[:200]
        )
        await self.write("session", passwords.digest(cookie), session)
        return cookie

    async def first_link(self, *, always: bool) -> str | None:
        """A one-time link's secret for the user `admin`, who is made if there is nobody: when nobody can log in yet, or
        `always`. Raises NotSaved.
        """
        known = self.users()
        if not always and any(user.password for user in known if user.role == "admin"):
            return None
        admins = [user for user in known if user.role == "admin"]
        if not admins:
            user = User(name="admin", role="admin", changed_us=self._clock.now_us())
            await self.write("user", user.name, user)
            admins = [user]
        return await self.begin_link(admins[0].name)

    async def begin_link(self, user: str) -> str:
        """A secret that logs a person in once, within the hour. Raises NotSaved."""
        secret, now_us = passwords.secret(), self._clock.now_us()
        await self.write(
            "link", passwords.digest(secret), Link(user=user, created_us=now_us, expires_us=now_us + LINK_US)
        )
        return secret

    async def use_link(self, secret: str) -> User | None:
        """Whom a one-time link logs in; None where it was used before, is too old or never was. Raises NotSaved."""
        key = passwords.digest(secret)
        link: Link | None = self._of["link"].get(key)
        if link is None or link.claim or link.expires_us <= self._clock.now_us():
            return None
        user = self.user(link.user)
        if user is None or link.created_us < user.sessions_from_us:
            return None
        claim = passwords.secret()
        await self.write("link", key, msgspec.structs.replace(link, claim=claim))
        claimed: Link | None = self._of["link"].get(key)
        if claimed is None or claimed.claim != claim:
            return None
        return user

    async def write(self, kind: str, name: str, record: msgspec.Struct | None) -> None:
        """Write a record, or with None remove one, and return once it counts here. Raises NotSaved."""
        value = None if record is None else _CODECS[kind].encode(record)
        await self._writer.put(ACCOUNTS.name, f"{kind}/{name}", value, lambda: self._offset)


def csrf_of(cookie: str) -> str:
    """What a page must say beside the cookie when it asks for a change: another site cannot know it."""
    return passwords.digest("csrf:" + cookie)[:32]
