"""Reads frames and events from where the store stands, and keeps them in it, a portion at a time.

Scans count once, as in the processor: a cursor per stream drops what came before and trims what overlaps (a frame that
was sent twice under two offsets), and a preview that is behind the scans in order is dropped.
"""

from __future__ import annotations

import logging
import threading

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from tidegate_protocols.batch import Lane
from tidegate_protocols.codec.bulk import Block, Decoded, decode_many
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import EVENT
from tidegate_protocols.frame import NotYetReadable
from tidegate_protocols.schema import Schema
from tidegate_protocols.topics import EVENTS, FRAMES, PRIORS, SCHEMAS

from tidegate_cloud.clock import Clock
from tidegate_cloud.kafka import Message, Offsets, Part, passes, reader, take

from .store import Columns, HistoryStore, Portion, Stream

_log = logging.getLogger(__name__)
_AT_ONCE = 5_000
_WAIT_S = 0.5
_TIDY_S = 60.0
_LOOK_S = 1.0
_WAITING_MAX = 20_000
_LANE = 3


class Follower:
    """See the module's docstring. `run` returns when `stop` is set; it raises KafkaException, BadInput.

    `readings` kept, `frames` read, `unreadable` records, scans `left_out` since they came before; `lag`: records that
    Kafka has and that are not kept yet.
    """

    def __init__(self, bootstrap: str, store: HistoryStore, clock: Clock) -> None:
        self._bootstrap = bootstrap
        self._store = store
        self._clock = clock
        self._cursors = dict(store.cursors())
        self._schemas: dict[bytes, Schema] = {}
        self._priors: dict[bytes, Priors] = {}
        self._waiting: list[Message] = []  # frames whose schema is still to come; their offsets are not kept
        self._read: dict[Part, int] = {}
        self._looked = float("-inf")
        self.readings = self.frames = self.unreadable = self.left_out = self.lag = 0

    def run(self, stop: threading.Event) -> None:
        consumer = reader(self._bootstrap, "tidegate-history")
        try:
            self._assign(consumer)
            tidied = self._clock.monotonic()
            while not stop.is_set():
                messages = take(consumer, _AT_ONCE, _WAIT_S)
                self._round(messages)
                self._note(consumer, messages)
                if self._clock.monotonic() - tidied >= _TIDY_S:
                    self._store.tidy(self._clock.now_us())
                    tidied = self._clock.monotonic()
        finally:
            consumer.close()

    def _note(self, consumer: Consumer, messages: list[Message]) -> None:
        """How far the partitions have been read, and by what they are behind."""
        for message in messages:
            part = Part(message.topic(), message.partition())
            if part in self._read:
                self._read[part] = message.offset() + (message.error() is None)
        if self._clock.monotonic() - self._looked >= _LOOK_S:
            self._looked = self._clock.monotonic()
            ends = {part: consumer.get_watermark_offsets(TopicPartition(*part), cached=True) for part in self._read}
            self.lag = sum(max(0, found[1] - self._read[part]) for part, found in ends.items() if found is not None)

    def _assign(self, consumer: Consumer) -> None:
        kept = self._store.offsets()
        parts = [Part(topic.name, number) for topic in (FRAMES, EVENTS) for number in range(topic.partitions)]
        earliest = Offsets(self._bootstrap, "tidegate-history-offsets").earliest(parts)
        starts = []
        for part in parts:
            begin = kept.get((part.topic, part.partition), earliest[part])
            if begin < earliest[part]:
                _log.error("%s[%d]: Kafka no longer has offsets %d to %d", *part, begin, earliest[part] - 1)
                begin = earliest[part]
            starts.append(TopicPartition(*part, begin))
        self._read = {Part(tp.topic, tp.partition): tp.offset for tp in starts}
        consumer.assign([*starts, *(TopicPartition(topic.name, 0, 0) for topic in (SCHEMAS, PRIORS))])

    def _round(self, messages: list[Message]) -> None:
        portion, frames = Portion(), []
        for message in messages:
            if not _good(message):
                continue
            place = (message.topic(), message.partition())
            match message.topic():
                case SCHEMAS.name | PRIORS.name:
                    self._learn(message)
                    continue
                case EVENTS.name:
                    try:
                        portion.events.append(EVENT.decode(message.value() or b""))
                    except BadInput as error:
                        self.unreadable += 1
                        _log.warning("left out: %s", error.at(f"{place[0]}[{place[1]}]@{message.offset()}"))
                case FRAMES.name:
                    frames.append(message)
                    self.frames += 1
            portion.offsets[place] = message.offset() + 1
        self._frames(portion, self._waiting + frames)
        if portion.offsets:
            self._store.keep(portion)

    def _learn(self, message: Message) -> None:
        """A schema, or priors that frames build on."""
        try:
            if message.topic() == SCHEMAS.name:
                schema = Schema.from_json(message.value() or b"")
                self._schemas[schema.fingerprint] = schema
            else:
                priors = Priors.from_json(message.value() or b"")
                self._priors[priors.name] = priors
        except BadInput as error:
            _log.warning("left out: %s", error.at(f"{message.topic()}@{message.offset()}"))

    def _frames(self, portion: Portion, messages: list[Message]) -> None:
        """Decode frames and put what is new of them into the portion; those that name what is not there yet wait."""
        self._waiting = []
        while messages:
            decoded = decode_many([message.value() for message in messages[:_AT_ONCE]], self._schemas, self._priors)
            for place, error in decoded.bad.items():
                if isinstance(error, NotYetReadable) and len(self._waiting) < _WAITING_MAX:
                    self._waiting.append(messages[place])
                else:
                    self.unreadable += 1
            self._take(portion, decoded)
            messages = messages[decoded.taken :]
        for message in self._waiting:  # to be read again after a restart
            where = (message.topic(), message.partition())
            portion.offsets[where] = min(portion.offsets.get(where, message.offset()), message.offset())

    def _take(self, portion: Portion, decoded: Decoded) -> None:
        names = [device.decode("ascii") for device in decoded.devices]
        fresh = {
            preview: [np.zeros(len(block), np.bool_) for block in decoded.blocks] for preview in (False, True)
        }  # fmt: skip
        for frame in range(decoded.taken):
            number = int(decoded.block[frame])
            if number < 0:
                continue
            preview = int(decoded.flags[frame]) & _LANE == Lane.PREVIEW
            device = names[decoded.device[frame]]
            mark = decoded.schemas[decoded.schema[frame]]
            epoch, seq, count = int(decoded.epoch[frame]), int(decoded.seq[frame]), int(decoded.scans[frame])
            stream = Stream(device, mark, preview)
            begin = self._new(stream, epoch, seq, seq + count)
            if begin is None:
                self.left_out += count
                continue
            row = int(decoded.row[frame])
            fresh[preview][number][row + begin : row + count] = True
            portion.cursors[stream] = self._cursors[stream] = (epoch, seq + count)
            if not preview:
                last = int(decoded.blocks[number].ts_us[row + count - 1])
                portion.reached[device] = max(portion.reached.get(device, last), last)
        for number, block in enumerate(decoded.blocks):
            portion.readings += self._columns(block, names, fresh[False][number])
            portion.previews += self._columns(block, names, fresh[True][number])

    def _new(self, stream: Stream, epoch: int, seq: int, end: int) -> int | None:
        """How many of a frame's scans are known already; None when all of them are."""
        known = self._cursors.get(stream, (-1, 0))
        if stream.preview:
            known = max(known, self._cursors.get(Stream(stream.device, stream.fingerprint, False), (-1, 0)))
        if (epoch, end) <= known:
            return None
        return max(0, known[1] - seq) if epoch == known[0] else 0

    def _columns(self, block: Block, names: list[str], fresh: npt.NDArray[np.bool_]) -> list[Columns]:
        if not fresh.any():
            return []
        made = []
        for channel, column, valid in zip(block.schema.channels, block.columns, block.valid, strict=True):
            value = column.astype(np.float64)
            good = fresh & np.isfinite(value)
            if valid is not None:
                good &= valid
            if good.any():
                self.readings += int(np.count_nonzero(good))
                made.append(
                    Columns(channel.name, channel.unit, names, block.device[good], block.ts_us[good], value[good])
                )
        return made


def _good(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.code() != KafkaError._PARTITION_EOF and not passes(error):
        raise KafkaException(error)
    return False
