"""One schema for a device whose messages do not always hold the same channels.

SenML and flat JSON say what is in a message by what is in it. Without a memory a van that sends no heading while it
stands would change its schema at every stop, and a schema is a stream of its own. `SteadySchemas` remembers the
channels that each device has had under a schema name and gives every scan all of them, nulls where it has none; so the
schema grows a few times and then stays.

A channel whose type or unit changes begins the device's memory anew: the new meaning is the right one from then on.
Limits: 65,536 devices; the one not heard for longest is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from ..scan import Scan, Value, schema_of
from ..schema import CHANNELS_MAX, Schema

DEVICES_MAX = 65_536
_Key = tuple[str | None, str]


class SteadySchemas:
    """Remembers channels per device and schema name."""

    def __init__(self, *, devices_max: int = DEVICES_MAX) -> None:
        self._devices_max = devices_max
        self._known: OrderedDict[_Key, Schema] = OrderedDict()

    def widen(self, scans: Sequence[Scan]) -> list[Scan]:
        """The same scans, each under all channels that its device is known to have, in alphabetical order."""
        return [self._widen(scan) for scan in scans]

    def _widen(self, scan: Scan) -> Scan:
        key = (scan.device, scan.schema.name)
        known = self._known.get(key)
        if known is None or (known is not scan.schema and not _covers(known, scan.schema)):
            known = _joined(known, scan.schema)
            self._known[key] = known
            if len(self._known) > self._devices_max:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        if known is scan.schema:
            return scan
        values: dict[str, Value] = {
            channel.name: value for channel, value in zip(scan.schema.channels, scan.values, strict=True)
        }
        return replace(scan, schema=known, values=tuple(values.get(channel.name) for channel in known.channels))


def _covers(known: Schema, schema: Schema) -> bool:
    index = known.index
    return all(channel.name in index and known.channels[index[channel.name]] == channel for channel in schema.channels)


def _joined(known: Schema | None, schema: Schema) -> Schema:
    channels = {channel.name: channel for channel in schema.channels}
    if known is not None and all(channels.get(channel.name, channel) == channel for channel in known.channels):
        channels = {channel.name: channel for channel in known.channels} | channels
        if len(channels) > CHANNELS_MAX:
            channels = {channel.name: channel for channel in schema.channels}
    return schema_of(schema.name, tuple(channels[name] for name in sorted(channels)))
