"""What operators remember: tables of fixed-layout rows, by device and item.

An item is what a row is about within its device: a channel, a rule, a fence, or "" for the device itself. A device
may have any number of rows; they form a linked list through one array, so that a kernel can add and remove rows and
a device costs no Python object per row.

`StateRows` holds the tables of one operator for every device at hand. Its bytes for a device: version (1 byte), then
per table the number of rows (uint32) and each row: length of the item's name (uint16), the name (UTF-8), the row
(little-endian, in the dtype's layout). Rows stand in order of their names: equal state gives equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.errors import BadInput, Misuse

from . import names
from .kernels import rows as kernels

_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<H")
_FIRST = 64


class Table:
    """Rows of one layout, found by (device number, item number). All arrays are shared with kernels.

    data   structured [capacity]
    raw    uint8 [capacity, size of a row], the same memory: numpy copies structured rows field by field
    item   int32 [capacity], number of the item (`names.number_of`)
    after  int32 [capacity], next row of the same device, -1 = last
    head   int32 [devices], first row of a device, -1 = none
    free   int32 [capacity], a stack of unused rows; `top[0]` of them are left
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        if dtype.hasobject or dtype.names is None:
            raise Misuse(f"{dtype} is not a fixed layout")
        self.dtype = dtype
        self.data: npt.NDArray[Any] = np.zeros(0, dtype)
        self.raw: npt.NDArray[np.uint8] = np.zeros((0, dtype.itemsize), np.uint8)
        self.item: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.after: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.head: npt.NDArray[np.int32] = np.full(_FIRST, -1, np.int32)
        self.free: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.top: npt.NDArray[np.int64] = np.zeros(1, np.int64)

    def reserve(self, rows: int) -> None:
        """See to it that `rows` more rows can be added without growing. Views of the arrays may go stale."""
        if self.top[0] >= rows:
            return
        old = len(self.data)
        new = max(_FIRST, 2 * old, old + rows)
        # np.resize would repeat the content; new rows must be zero.
        self.raw = np.concatenate([self.raw, np.zeros((new - old, self.dtype.itemsize), np.uint8)])
        self.data = self.raw.reshape(-1).view(self.dtype)
        self.item = np.concatenate([self.item, np.zeros(new - old, np.int32)])
        self.after = np.concatenate([self.after, np.full(new - old, -1, np.int32)])
        left = self.free[: self.top[0]]
        self.free = np.empty(new, np.int32)
        # Low numbers on top: they are used first.
        fresh = np.arange(new - 1, old - 1, -1, dtype=np.int32)
        self.free[: len(fresh)] = fresh
        self.free[len(fresh) : len(fresh) + len(left)] = left
        self.top[0] += len(fresh)

    def reserve_devices(self, devices: int) -> None:
        """See to it that device numbers below `devices` are valid."""
        if len(self.head) < devices:
            more = max(devices, 2 * len(self.head)) - len(self.head)
            self.head = np.concatenate([self.head, np.full(more, -1, np.int32)])

    def add(self, device: int, item: int) -> int:
        """A new row, all zero, and its number. The caller knows that there is none yet."""
        self.reserve(1)
        self.top[0] -= 1
        row = int(self.free[self.top[0]])
        self.raw[row] = 0
        self.item[row] = item
        self.after[row] = self.head[device]
        self.head[device] = row
        return row

    def rows_of(self, devices: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Row numbers of these devices one after the other, and how many each has. Device -1 has none."""
        counts = np.empty(len(devices), np.int32)
        rows = np.empty(kernels.count(self.head, self.after, devices, counts), np.int32)
        kernels.collect(self.head, self.after, devices, rows)
        return rows, counts

    def find(self, devices: npt.NDArray[np.int32], item: int) -> npt.NDArray[np.int32]:
        """The row of each device with this item; rows that are missing are added, all zero."""
        rows = np.empty(len(devices), np.int32)
        missing = kernels.find(self.head, self.after, self.item, devices, item, rows)
        if missing:
            self.reserve(missing)
            for i in np.flatnonzero(rows < 0):
                rows[i] = self.add(int(devices[i]), item)
        return rows

    def remove(self, device: int, row: int) -> None:
        """Remove one row of a device."""
        following = int(self.after[row])
        before = int(self.head[device])
        if before == row:
            self.head[device] = following
        else:
            while self.after[before] != row:
                before = int(self.after[before])
            self.after[before] = following
        self.free[self.top[0]] = row
        self.top[0] += 1

    def clear(self, device: int) -> None:
        """Remove every row of a device."""
        row = int(self.head[device])
        while row >= 0:
            self.free[self.top[0]] = row
            self.top[0] += 1
            row = int(self.after[row])
        self.head[device] = -1


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What devices remembered at one moment; per table their rows' bytes, items, and the end of each device's rows."""

    devices: dict[str, int]
    tables: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.int64]]]


class StateRows:
    """The rows of one operator, for any number of devices.

    version  of the layout and of what the fields mean, 1 to 255
    tables   by name: their layouts, fixed for the life of the object
    """

    def __init__(self, version: int, layouts: dict[str, np.dtype[Any]]) -> None:
        self.version = version
        self.tables = {name: Table(dtype) for name, dtype in layouts.items()}
        self._numbers: dict[str, int] = {}
        self._unused: list[int] = []

    def __contains__(self, device: str) -> bool:
        return device in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def devices(self) -> list[str]:
        """The devices that have a number here; most have rows."""
        return list(self._numbers)

    @property
    def nbytes(self) -> int:
        """Memory held by the tables."""
        return sum(a.nbytes for t in self.tables.values() for a in (t.data, t.item, t.after, t.head, t.free))

    def numbers(self, devices: Sequence[str], *, new: bool = True) -> npt.NDArray[np.int32]:
        """The number of each device in the tables' `head`. A device without one gets one, or -1 when not `new`."""
        known = self._numbers
        out = np.array([known.get(device, -1) for device in devices], np.int32)
        if new and len(out) and out.min() < 0:
            for i in np.flatnonzero(out < 0):
                out[i] = self._number(devices[int(i)])
        return out

    def _number(self, device: str) -> int:
        number = self._numbers.get(device)
        if number is None:
            number = self._unused.pop() if self._unused else len(self._numbers)
            self._numbers[device] = number
            for table in self.tables.values():
                table.reserve_devices(number + 1)
        return number

    def forget(self, device: str) -> None:
        """Remove everything about a device."""
        number = self._numbers.pop(device, None)
        if number is not None:
            for table in self.tables.values():
                table.clear(number)
            self._unused.append(number)

    def clear(self) -> None:
        """Remove everything."""
        for device in self.devices:
            self.forget(device)

    def snapshot(self, devices: Iterable[str]) -> Snapshot:
        """Copy what these devices remember, to `restore` from. A device that is not known yet is remembered as such."""
        wanted = list(dict.fromkeys(devices))
        numbers = self.numbers(wanted, new=False)
        parts = []
        for table in self.tables.values():
            rows, counts = table.rows_of(numbers)
            parts.append((table.raw[rows], table.item[rows], np.cumsum(counts, dtype=np.int64)))
        return Snapshot({device: i for i, device in enumerate(wanted)}, parts)

    def restore(self, snapshot: Snapshot, devices: Iterable[str] | None = None) -> None:
        """Put devices back to what they remembered; all of the snapshot's when `devices` is left out."""
        for device in snapshot.devices if devices is None else devices:
            i = snapshot.devices[device]
            self.forget(device)
            for table, (data, items, ends) in zip(self.tables.values(), snapshot.tables, strict=True):
                # Reversed, since `add` puts a row in front: the list keeps its order.
                for k in range(int(ends[i]) - 1, (int(ends[i - 1]) if i else 0) - 1, -1):
                    row = table.add(self._number(device), int(items[k]))
                    table.raw[row] = data[k]

    def to_bytes(self, device: str) -> bytes:
        """All that is remembered about a device; b"" for nothing."""
        number = self._numbers.get(device)
        if number is None:
            return b""
        parts = [bytes([self.version])]
        some = False
        for table in self.tables.values():
            rows, _ = table.rows_of(np.array([number], np.int32))
            named = sorted((names.name_of(int(table.item[row])).encode(), int(row)) for row in rows)
            some = some or bool(named)
            parts.append(_COUNT.pack(len(named)))
            for name, row in named:
                parts += (_LENGTH.pack(len(name)), name, table.data[row].tobytes())
        return b"".join(parts) if some else b""

    def from_bytes(self, device: str, data: bytes) -> None:
        """Make `data` what is remembered about a device. Raises BadInput for another version or a cut row."""
        self.forget(device)
        if not data:
            return
        where = f"state of {device}"
        if data[0] != self.version:
            raise BadInput(f"rows of version {data[0]}; this program reads {self.version}", where=where)
        number = self._number(device)
        place = 1
        try:
            for table in self.tables.values():
                (count,) = _COUNT.unpack_from(data, place)
                place += _COUNT.size
                for _ in range(count):
                    (length,) = _LENGTH.unpack_from(data, place)
                    place += _LENGTH.size
                    name = data[place : place + length].decode()
                    place += length
                    values = np.frombuffer(data, np.uint8, table.dtype.itemsize, place)
                    place += table.dtype.itemsize
                    row = table.add(number, names.number_of(name))
                    table.raw[row] = values
        except (struct.error, ValueError) as error:
            self.forget(device)
            raise BadInput(f"the rows are damaged at byte {place}: {error}", where=where) from None
        if place != len(data):
            self.forget(device)
            raise BadInput(f"{len(data) - place} bytes too many", where=where)
