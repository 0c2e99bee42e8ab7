"""Streams whose frames wait in the retry topic, and which of them may come back.

A frame waits until its schema and the priors that it names have been announced. A stream keeps its order: while one of
its frames waits, so does every later one, also where that could be read by itself.

The retry partition is read in passes: from the first frame that waits, until every stream that can be read has come
back. A stream that had to be passed over comes back in a later pass only, even if what it waits for is announced
during this one: frames of it have been passed by that must go first.
"""

from __future__ import annotations

from tidegate_protocols.frame import FrameHeader

from .logic import Record
from .registry import Registry

Stream = tuple[str, bytes]  # device, schema fingerprint


class Parked:
    """The streams that wait, by partition. `needed`: the first offset of the retry partition that still waits."""

    def __init__(self, registry: Registry) -> None:
        self.needed: dict[int, int] = {}
        self._registry = registry
        # What a stream waits for beside its schema: the name of priors; empty where that is not known, or nothing.
        self._streams: dict[int, dict[Stream, bytes]] = {}
        self._passed: dict[int, set[Stream]] = {}

    def add(self, partition: int, device: str, fingerprint: bytes) -> None:
        """A frame of this stream is in the retry topic."""
        self._streams.setdefault(partition, {}).setdefault((device, fingerprint), b"")

    def discard(self, partition: int, device: str, fingerprint: bytes) -> None:
        """No frame of this stream is there any more."""
        self._streams.get(partition, {}).pop((device, fingerprint), None)
        self._passed.get(partition, set()).discard((device, fingerprint))

    def drop(self, partition: int) -> None:
        """Forget everything about a partition."""
        self.needed.pop(partition, None)
        self._streams.pop(partition, None)
        self._passed.pop(partition, None)

    def reads(self, partition: int) -> bool:
        """Whether the retry partition is to be read on. False ends the pass: reading begins again at `needed`."""
        passed = self._passed.get(partition, ())
        for stream, priors in self._streams.get(partition, {}).items():
            if stream not in passed and self._readable(stream[1], priors):
                return True
        self._passed.pop(partition, None)
        return False

    def met(self, partition: int, offset: int) -> None:
        """A record of the retry partition is being read. (Where it is the first that waits, a pass has begun.)"""
        if offset <= self.needed.get(partition, -1):
            del self.needed[partition]
            self._passed.pop(partition, None)

    def may_go(self, record: Record, header: FrameHeader) -> bool:
        """Whether a frame in the retry topic can be processed now; otherwise it is needed there."""
        partition, stream = record.partition, (header.device, header.fingerprint)
        passed = self._passed.setdefault(partition, set())
        if stream not in passed:
            readable = self._readable(header.fingerprint, header.priors)
            self._streams.setdefault(partition, {})[stream] = b"" if readable else header.priors
            if readable:
                return True
            passed.add(stream)
        self.needed.setdefault(partition, record.offset)
        return False

    def _readable(self, fingerprint: bytes, priors: bytes) -> bool:
        if fingerprint not in self._registry.schemas:
            return False
        named = self._registry.priors.get(priors)
        return not priors or (named is not None and named.fingerprint == fingerprint)
