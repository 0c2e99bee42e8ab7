"""The second stage, as a `Logic` for the engine's runner: alerts by what may make them one fault, in the order in which
they come; out come groups, who is told of what, and commands for the alerts of a group.

One row per key, key ``d/KEY``, in the partition of the key. That is another partition than those of the devices: what
concerns alerts of many devices meets here, and what follows for one of them goes back through `fleet.commands`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tidegate_protocols.alerts import ALERT, COMMAND, GROUP, TRANSITION
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import ALERT_GROUPS, ALERT_LOG, ALERT_MEMBERS, COMMANDS, GROUP_CHECKPOINTS

from tidegate_cloud.engine import MicroBatch, Output, Outputs, Record, RowKey
from tidegate_cloud.engine.deadletters import dead_letter

from .book import Book
from .group_state import Said
from .groups import KeyGroups
from .policies import InForce

COUNTERS = {
    "alerts": "Changes of alerts read from engine.alert-members",
    "told": "Lines on fleet.alert-log by which somebody is told",
    "dead_letters": "Records that went to telemetry.dead-letters",
}


class GroupLogic:
    """See the module's docstring and `engine.logic.Logic`."""

    name = "alert-groups"
    state_version = 1
    log_topic = ALERT_MEMBERS.name
    side_topics: tuple[str, ...] = (COMMANDS.name,)
    broadcast_topics: tuple[str, ...] = InForce.TOPICS
    checkpoint_topic = GROUP_CHECKPOINTS.name
    tick_s: float | None = 1.0

    def __init__(self) -> None:
        self._in_force = InForce()
        self._keys = Book(self.checkpoint_topic, self._new, self._row)
        self._edition: dict[int, int] = {}  # partition → edition of what is in force by which alarms were set

    def _new(self) -> KeyGroups:
        return KeyGroups(self._in_force)

    def _row(self, data: bytes) -> KeyGroups:
        return KeyGroups.from_bytes(data, self._in_force)

    def broadcast(self, records: Sequence[Record]) -> None:
        for record in records:
            self._in_force.put(record)

    def take(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        self.drop(partition)
        self._keys.take(partition, rows)
        self._edition[partition] = self._in_force.edition

    def drop(self, partition: int) -> None:
        self._keys.drop(partition)
        self._edition.pop(partition, None)

    def process(self, batch: MicroBatch) -> Outputs:
        out = Outputs(counts={"alerts": 0, "told": 0})
        for record in batch.sides:
            self._command(record, out)
        for partition, now_us in batch.ticks.items():
            self._tick(partition, now_us, out)
        for record in batch.records:
            self._alert(record, out)
        return out

    def rows(self, keys: Iterable[RowKey]) -> Iterable[tuple[RowKey, bytes | None]]:
        return self._keys.to_bytes(keys)

    def reads(self, topic: str, partition: int) -> bool:
        return True

    def _alert(self, record: Record, out: Outputs) -> None:
        try:
            alert = ALERT.decode(record.value or b"")
        except BadInput as error:
            _refuse(record, error, out)
            return
        out.counts["alerts"] += 1
        key = record.key or b""
        row = self._keys.row(record.partition, key)
        self._emit(record.partition, key, row.alert(alert, record.append_us, key.decode("utf-8", "replace")), out)
        out.touched.add(RowKey(record.partition, b"d/" + key))

    def _command(self, record: Record, out: Outputs) -> None:
        try:
            command = COMMAND.decode(record.value or b"")
        except BadInput:
            return  # the first stage reads it too, and makes it a dead letter
        if not command.group or record.key != command.group.encode():
            return
        row = self._keys.row(record.partition, record.key)
        self._emit(record.partition, record.key, row.command(command, record.append_us), out)

    def _tick(self, partition: int, now_us: int, out: Outputs) -> None:
        if self._edition.get(partition) != self._in_force.edition:
            self._edition[partition] = self._in_force.edition
            for key, _ in self._keys.items(partition):
                self._keys.settle(partition, key)
        for key, row in self._keys.due(partition, now_us):
            self._emit(partition, key, row.tick(now_us), out)

    def _emit(self, partition: int, key: bytes, changes: Iterable[Said], out: Outputs) -> None:
        changed = False
        for said in changes:
            changed = True
            if (line := said.transition) is not None:
                out.counts["told"] += bool(line.tell)
                out.records.append(Output(ALERT_LOG.name, line.device.encode() or key, TRANSITION.encode(line)))
            if said.group is not None:
                out.records.append(
                    Output(ALERT_GROUPS.name, said.group.id.encode(), GROUP.encode(said.group), partition)
                )
            if said.command is not None:
                command = said.command
                out.records.append(Output(COMMANDS.name, command.device.encode(), COMMAND.encode(command)))
            if said.gone is not None:
                out.records.append(Output(ALERT_GROUPS.name, said.gone.encode(), None, partition))
        row = self._keys.settle(partition, key)
        if changed:
            out.touched.add(row)


def _refuse(record: Record, error: BadInput, out: Outputs) -> None:
    out.counts["dead_letters"] = out.counts.get("dead_letters", 0) + 1
    out.records.append(dead_letter(record, "unreadable", error))
