"""Passwords under argon2id (RFC 9106), and secrets that are compared by their digests."""

from __future__ import annotations

import asyncio
import hashlib
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from tidegate_protocols.errors import BadInput

SHORTEST, LONGEST = 10, 256
# RFC 9106's second recommendation: 64 MiB, three passes, four lanes. It takes some 50 ms of one core.
_HASHER = PasswordHasher()
_NOBODYS = _HASHER.hash(secrets.token_urlsafe())


def check_new(password: str, name: str) -> None:
    """Raise BadInput where a password is too easy to guess."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise BadInput(f"it has {len(password)} characters", where="password", hint=f"{SHORTEST} to {LONGEST} are good")
    if len(set(password)) < 5 or name.lower() in password.lower():
        raise BadInput("it is too easy to guess", where="password", hint="a few words that do not belong together")


class Hashing:
    """Hashes off the event loop, two at a time: so much memory and no more, however many knock."""

    def __init__(self) -> None:
        self._at_once = asyncio.Semaphore(2)

    async def hashed(self, password: str) -> str:
        """A password in PHC form."""
        async with self._at_once:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def matches(self, known: str, password: str) -> bool:
        """Whether this is the password. With `known` empty it takes as long and is not."""
        if len(password) > LONGEST:
            return False
        async with self._at_once:
            return await asyncio.to_thread(_matches, known, password)


def _matches(known: str, password: str) -> bool:
    try:
        return _HASHER.verify(known or _NOBODYS, password) and bool(known)
    except (VerificationError, InvalidHashError):
        return False


def secret() -> str:
    """256 random bits as text that a cookie, a header and an address can carry."""
    return secrets.token_urlsafe(32)


def digest(text: str) -> str:
    """By which a secret is known: SHA-256, hex. (A random secret needs no slow hash.)"""
    return hashlib.sha256(text.encode()).hexdigest()
