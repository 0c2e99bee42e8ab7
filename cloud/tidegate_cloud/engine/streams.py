"""What the engine itself keeps of every device and stream at hand, in columns.

A stream is a device and a schema fingerprint. Scans are named (epoch, sequence number) when they become durable on the
edge, and names are compared as tuples, so one cursor per stream says how far it is (rule B5); a preview that is open
has one more. `kernels.admit` compares and moves the cursors; `cursors` has the layout of what is stored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tidegate_protocols.schema import FINGERPRINT_SIZE

from .cursors import Cursor, DeviceRow
from .logic import RowKey

ROW_PREFIX = b"d/"

# heard_us, usual_us, silent  see cursors.DeviceRow
# turn, round, group          of kernels.admit, within one micro-batch
DEVICE = np.dtype(
    [("heard_us", "<i8"), ("usual_us", "<i8"), ("turn", "<i8"), ("group", "<i8"), ("partition", "<i4"),
     ("round", "<i4"), ("silent", "u1")]
)  # fmt: skip
# See cursors.Cursor; open: whether there is a preview; shown_…: its cursor.
STREAM = np.dtype(
    [("epoch", "<i8"), ("next", "<i8"), ("parked_to", "<i8"), ("resumed_to", "<i8"), ("shown_epoch", "<i8"),
     ("shown_next", "<i8"), ("device", "<i4"), ("schema", "<i4"), ("broken", "u1"), ("estimated", "u1"),
     ("open", "u1"), ("shown_broken", "u1"), ("shown_estimated", "u1")]
)  # fmt: skip
_FIRST = 256


class Streams:
    """Devices and their streams under numbers.

    device, stream  records of DEVICE and STREAM, by number
    number_of       device id (bytes) → number
    row_keys, names by number: the device's row, its id
    """

    def __init__(self) -> None:
        self.device: npt.NDArray[np.void] = np.zeros(_FIRST, DEVICE)
        self.stream: npt.NDArray[np.void] = np.zeros(_FIRST, STREAM)
        self.number_of: dict[bytes, int] = {}
        self.names: list[str] = []
        self.row_keys: list[RowKey] = []
        self.schemas: list[bytes] = []
        self._schema_of: dict[bytes, int] = {}
        self._stream_of: dict[int, int] = {}
        self._of_device: list[list[int]] = []
        self._free_devices: list[int] = []
        self._free_streams: list[int] = []
        self._used_streams = 0
        self._members: dict[int, set[int]] = {}

    def schema_number(self, fingerprint: bytes) -> int:
        """The number of a schema, known or not; it stays."""
        number = self._schema_of.get(fingerprint)
        if number is None:
            assert len(fingerprint) == FINGERPRINT_SIZE
            number = self._schema_of[fingerprint] = len(self.schemas)
            self.schemas.append(fingerprint)
        return number

    def add_device(self, name: bytes, partition: int) -> int:
        """A device that is not there yet, in its home partition."""
        if self._free_devices:
            number = self._free_devices.pop()
        else:
            number = len(self.names)
            self.names.append("")
            self.row_keys.append(RowKey(0, b""))
            self._of_device.append([])
            if number == len(self.device):
                self.device = np.concatenate([self.device, np.zeros(number, DEVICE)])
        self.device[number] = np.zeros((), DEVICE)
        self.device["partition"][number] = partition
        self.number_of[name] = number
        self.names[number] = name.decode("ascii")
        self.row_keys[number] = RowKey(partition, ROW_PREFIX + name)
        self._members.setdefault(partition, set()).add(number)
        return number

    def find_streams(self, device: npt.NDArray[np.int64], schema: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The stream of each (device number, schema number), -1 where there is none yet."""
        get = self._stream_of.get
        return np.array([get(key, -1) for key in (device << 32 | schema).tolist()], np.int32)

    def add_stream(self, device: int, schema: int) -> int:
        """A stream that is not there yet: nothing of it has been seen."""
        if self._free_streams:
            number = self._free_streams.pop()
        else:
            number = self._used_streams
            self._used_streams += 1
            if number == len(self.stream):
                self.stream = np.concatenate([self.stream, np.zeros(number, STREAM)])
        record = self.stream[number]
        record.fill(0)
        record["epoch"], record["parked_to"], record["resumed_to"] = -1, -1, -1
        record["device"], record["schema"] = device, schema
        self._stream_of[device << 32 | schema] = number
        self._of_device[device].append(number)
        return number

    def stream_of(self, device: int, schema: int) -> int:
        """One stream, -1 where there is none."""
        return self._stream_of.get(device << 32 | schema, -1)

    def of_device(self, device: int) -> list[int]:
        """The streams of a device."""
        return self._of_device[device]

    def members(self, partition: int) -> set[int]:
        """The devices of a partition."""
        return self._members.get(partition, set())

    def forget(self, device: int) -> None:
        """Remove a device and its streams."""
        name = self.names[device].encode()
        for stream in self._of_device[device]:
            del self._stream_of[device << 32 | int(self.stream["schema"][stream])]
            self._free_streams.append(stream)
        self._of_device[device] = []
        self._members[int(self.device["partition"][device])].discard(device)
        del self.number_of[name]
        self._free_devices.append(device)

    def parked(self, stream: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Whether frames of these streams are in the retry topic (-1: no stream, nothing there)."""
        return (stream >= 0) & (self.stream["resumed_to"][stream] < self.stream["parked_to"][stream])

    def load(self, name: bytes, row: DeviceRow) -> int:
        """Put a stored device in place; its number."""
        number = self.add_device(name, row.partition)
        record = self.device[number]
        record["heard_us"], record["usual_us"], record["silent"] = row.heard_us, row.usual_us, row.silent
        for fingerprint, c in row.cursors.items():
            place = self.add_stream(number, self.schema_number(fingerprint))
            stream = self.stream[place]  # not before: adding may make a new array
            stream["epoch"], stream["next"], stream["parked_to"], stream["resumed_to"] = (
                c.epoch, c.next, c.parked_to, c.resumed_to,
            )  # fmt: skip
            stream["broken"], stream["estimated"] = c.broken, c.estimated
            if c.shown is not None:
                stream["open"] = 1
                stream["shown_epoch"], stream["shown_next"] = c.shown.epoch, c.shown.next
                stream["shown_broken"], stream["shown_estimated"] = c.shown.broken, c.shown.estimated
        return number

    def row(self, device: int) -> DeviceRow:
        """A device as it is stored; the operators' part of previews is the caller's to add."""
        heard, usual, _, _, partition, _, silent = self.device[device].tolist()
        row = DeviceRow(partition, heard, usual, bool(silent))
        for number in self._of_device[device]:
            (
                epoch, following, parked_to, resumed_to, shown_epoch, shown_next, _, schema, broken, estimated, is_open,
                shown_broken, shown_estimated,
            ) = self.stream[number].tolist()  # fmt: skip
            cursor = Cursor(epoch, following, parked_to, resumed_to, bool(broken), bool(estimated))
            if is_open:
                cursor.shown = Cursor(
                    shown_epoch, shown_next, broken=bool(shown_broken), estimated=bool(shown_estimated)
                )
            row.cursors[self.schemas[schema]] = cursor
        return row
