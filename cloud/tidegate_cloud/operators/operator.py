"""What an operator is: a pure function over columns, with rows of state.

    process(block, state, control) -> EventColumns

No clock, no I/O, no randomness, no Python object per reading. What it finds, and the bytes of its state, must not
depend on how the scans of a device are cut into blocks. Kernels do not raise on any finite or non-finite number; when
`process` raises all the same, some devices' rows may have changed: the caller takes a `snapshot` before.

An edit of the control takes effect for a device at its next scan: what it changes follows from comparing the device's
rows with what is in force then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from .block import Block, EventColumns
from .control import Control
from .state import StateRows


class Level(NamedTuple):
    """A condition that holds for a device: the begin event that stands open. Times in microseconds since 1970 UTC."""

    kind: str
    subject: str
    since_us: int


class Operator(Protocol):
    """name     as in the events' `operator`
    version  raised when the layout or the meaning of the rows changes; a row of another version is not read
    """

    name: str
    version: int

    def new_state(self) -> StateRows:
        """Empty rows for this operator. One object may hold all devices; a preview has an object of its own."""
        ...

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        """Find events in a block; `state` moves on by its scans. A schema without channels for it gives no events."""
        ...

    def levels(self, state: StateRows, device: str) -> list[Level]:
        """The conditions that hold for a device, ordered by kind and subject."""
        ...


@runtime_checkable
class Ticking(Protocol):
    """An operator that time alone can lead to something has this method too."""

    def tick(self, devices: Sequence[str], now_us: int, state: StateRows, control: Control) -> EventColumns:
        """Every record of these devices that was appended by `now_us` has been processed, and perhaps later ones.

        `devices`: all of one partition that were ever heard. `scan` of what is found is an index into them. `now_us`
        is microseconds since 1970 UTC and may come in any steps, once a second at most: what is found, its `ts_us`
        above all, must follow from the rows and not from when the tick came. Rows change only for devices with an
        event. Not asked of previews.
        """
        ...
