"""How fast devices can go, by their type: what asks for more is a fault of the receiver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .control import Control


class Motion(NamedTuple):
    """Highest speed, m/s, and acceleration, m/s²; generous, since what is left out is not seen."""

    top_mps: float
    top_mps2: float


# By `Device.type`, in lower case.
MOTION: Mapping[str, Motion] = {
    "": Motion(70.0, 12.0),
    "aircraft": Motion(350.0, 40.0),
    "bicycle": Motion(25.0, 6.0),
    "bus": Motion(40.0, 6.0),
    "car": Motion(70.0, 12.0),
    "drone": Motion(60.0, 40.0),
    "machine": Motion(15.0, 5.0),
    "person": Motion(12.0, 6.0),
    "ship": Motion(40.0, 3.0),
    "train": Motion(100.0, 3.0),
    "truck": Motion(45.0, 6.0),
    "van": Motion(55.0, 8.0),
}


def limits_of(control: Control, devices: Sequence[str], motion: Mapping[str, Motion]) -> npt.NDArray[np.float64]:
    """What each device can do, float64 [devices, 2]: speed and acceleration."""
    usual = motion.get("", MOTION[""])
    known = control.devices
    return np.array(
        [motion.get(known[name].type.lower(), usual) if name in known else usual for name in devices], np.float64
    ).reshape(-1, 2)
