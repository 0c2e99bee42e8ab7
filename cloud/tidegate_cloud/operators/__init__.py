"""Operators: pure functions over columns with rows of state. They do no I/O and import no client library.

`block` is what goes in and comes out, `state` what is remembered, `control` what is in force, `operator` the contract.
`geofence`, `limit`, `condition` and `anomaly` are the operators; their loops are in `kernels`.
"""

from __future__ import annotations

from .block import Block, EventColumns, Found, block_of, no_events
from .control import Control
from .operator import Level, Operator, Ticking
from .state import Snapshot, StateRows

__all__ = [
    "Block",
    "Control",
    "EventColumns",
    "Found",
    "Level",
    "Operator",
    "Snapshot",
    "StateRows",
    "Ticking",
    "block_of",
    "default_operators",
    "no_events",
]


def default_operators(*, believe: bool = True) -> list[Operator]:
    """What the processor runs, in this order. believe: hold changes of fences back until they can be believed."""
    # Imported here: they bring numba with them, and who only needs the contract should not wait for it.
    from .anomaly import Anomaly
    from .condition import Condition
    from .geofence import BELIEVED, POINTWISE, Geofence
    from .limit import Limit

    return [Geofence(BELIEVED if believe else POINTWISE), Limit(), Condition(), Anomaly()]
