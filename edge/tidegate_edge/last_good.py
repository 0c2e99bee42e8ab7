"""Which configuration is in force, durably: `config.json` beside the spool.

One file, replaced as a whole (written beside, synced, renamed, the folder synced), so that a power cut at any point
leaves what was there before or what was to be there, and never neither:

    good     the configuration that runs, or is gone back to: it did well for its probation, or was the first one
    trial    one that is on probation, and how often an agent has started with it. An agent that starts and finds one
             was ended in the middle of it: it tries once more, then goes back
    refused  the last one that was not taken, and why
    seen     digest of the file that people edit, as it was last looked at: only a change of it is news

A file that cannot be read, or that its checksum does not fit, counts as none; the configuration file then decides
alone.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import msgspec

from . import durable

log = logging.getLogger(__name__)

NAME = "config.json"


class Entry(msgspec.Struct, frozen=True):
    """A configuration: its text, where it came from ("file", or who pushed it), and since when it is here."""

    text: str
    origin: str
    since_us: int

    @property
    def digest(self) -> str:
        return digest_of(self.text)


class Trial(Entry, frozen=True):
    """One on probation. `attempts`: how many agents have started with it, or switched to it."""

    attempts: int = 1


class Refusal(msgspec.Struct, frozen=True):
    """One that was not taken."""

    digest: str
    origin: str
    why: str
    at_us: int


class Record(msgspec.Struct, frozen=True):
    """Everything that is remembered; see the module."""

    good: Entry | None = None
    trial: Trial | None = None
    refused: Refusal | None = None
    seen: str = ""


def digest_of(text: str) -> str:
    """What names a configuration: the first 12 hexadecimal digits of the SHA-256 of its text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class LastGood:
    """The record of one folder. Written only by the agent that holds the folder's lock."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self.record = Record()
        try:
            self.record = msgspec.json.decode(durable.unseal(self.path.read_bytes()), type=Record)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.error("%s cannot be read, the configuration file decides alone: %s", self.path, error)

    def write(self, **changes: Entry | Trial | Refusal | str | None) -> None:
        """Change the record, durably. Raises OSError; then nothing has changed."""
        record = msgspec.structs.replace(self.record, **changes)
        if record == self.record:
            return
        durable.replace(self.path, durable.seal(msgspec.json.encode(record)))
        self.record = record
