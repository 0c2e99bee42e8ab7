"""The ways out: Apprise for people, signed webhooks for programs.

A webhook is signed as Standard Webhooks 1.0 says (standardwebhooks.com): the headers are ``webhook-id``,
``webhook-timestamp`` (seconds since 1970) and ``webhook-signature``, which is ``v1,`` and the base64 of the HMAC-SHA256
of ``ID.TIMESTAMP.BODY`` under the secret; with several secrets, one signature each, separated by blanks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import threading
from collections.abc import Sequence
from typing import Protocol

import msgspec
from tidegate_protocols.errors import BadInput

from .config import ChannelConfig
from .message import Message

_log = logging.getLogger(__name__)

TIMEOUT_S = (5.0, 10.0)  # to connect, to answer
_ERROR_MAX = 300
# What will be answered otherwise another time: time-out, too early, too many, and everything of the server's own.
_PASSING = frozenset((408, 425, 429))
_RETRY_AFTER_MAX_S = 3600.0


class SendFailed(Exception):
    """It was not taken. `for_good`: nor will it ever be. `after_s`: not to be tried again before."""

    def __init__(self, text: str, *, for_good: bool = False, after_s: float = 0.0) -> None:
        super().__init__(text[:_ERROR_MAX])
        self.for_good = for_good
        self.after_s = after_s


class Channel(Protocol):
    """`send` blocks until the message has been taken. Raises SendFailed. Any thread may call it."""

    def send(self, message: Message, now_s: float) -> None: ...


def open_channel(config: ChannelConfig) -> Channel:
    """Raises BadInput for an address that nobody can use."""
    if config.webhook:
        secrets = [config.secret] if isinstance(config.secret, str) else config.secret
        return Webhook(config.webhook, [key_of(secret) for secret in secrets])
    return Apprised(config.apprise)


def key_of(secret: str) -> bytes:
    """The key that a secret stands for: base64 after ``whsec_``, else the text itself. Raises BadInput."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("the secret after whsec_ is not base64") from None


def signature(name: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> str:
    """The value of ``webhook-signature``."""
    signed = f"{name}.{timestamp}.".encode() + body
    made = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return " ".join(f"v1,{one}" for one in made)


class Webhook:
    """POSTs JSON. 2xx is success; 408, 425, 429 and 5xx are tried again; anything else, a redirect too, is for good."""

    def __init__(self, address: str, keys: Sequence[bytes]) -> None:
        self._address = address
        self._keys = keys

    def send(self, message: Message, now_s: float) -> None:
        import requests  # here, since only this and Apprise need it

        body = msgspec.json.encode(message.fields())
        timestamp = int(now_s)
        headers = {
            "content-type": "application/json", "user-agent": "tidegate", "webhook-id": message.id,
            "idempotency-key": message.id, "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(message.id, timestamp, body, self._keys),
        }  # fmt: skip
        try:
            with requests.post(
                self._address, body, headers=headers, timeout=TIMEOUT_S, allow_redirects=False, stream=True
            ) as answer:
                code, after = answer.status_code, answer.headers.get("retry-after", "")
        except requests.RequestException as error:
            # Its text holds the address, which may hold a secret.
            raise SendFailed(f"no answer ({type(error).__name__})") from None
        if not 200 <= code < 300:
            passing = code in _PASSING or code >= 500
            raise SendFailed(f"answered {code}", for_good=not passing, after_s=_seconds(after))


class Apprised:
    """Whatever Apprise knows: mailto://, ntfy://, slack://, msteams:// … Its log says why it failed."""

    def __init__(self, address: str) -> None:
        import apprise

        self._types = {
            "critical": apprise.NotifyType.FAILURE, "warning": apprise.NotifyType.WARNING,
            "notice": apprise.NotifyType.INFO,
        }  # fmt: skip
        self._over = apprise.NotifyType.SUCCESS
        self._text = apprise.NotifyFormat.TEXT
        self._apprise = apprise.Apprise()
        logger = logging.getLogger("apprise")
        with _Heard(logger) as heard:
            if not self._apprise.add(address):
                scheme = address.split(":", 1)[0][:20]
                raise BadInput(
                    f"Apprise cannot use this {scheme}:// address" + (f": {heard.text}" if heard.text else ""),
                    hint="github.com/caronc/apprise/wiki lists them",
                )

    def send(self, message: Message, now_s: float) -> None:
        kind = self._over if message.state == "resolved" else self._types.get(message.severity)
        with _Heard(logging.getLogger("apprise")) as heard:
            try:
                taken = self._apprise.notify(
                    message.text, message.subject, kind or self._types["warning"], body_format=self._text
                )
            except Exception as error:  # a plugin may raise anything; the message must not be lost for that
                raise SendFailed(f"Apprise: {type(error).__name__}") from None
        if not taken:
            raise SendFailed(f"Apprise: {heard.text or 'not taken'}")


class _Heard(logging.Handler):
    """The last warning that this thread logged."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger
        self._thread = threading.get_ident()
        self.text = ""

    def __enter__(self) -> _Heard:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.text = record.getMessage()[:_ERROR_MAX]


def _seconds(text: str) -> float:
    return min(float(text), _RETRY_AFTER_MAX_S) if text.isascii() and text.isdigit() else 0.0
