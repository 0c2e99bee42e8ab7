"""Alerts: events become conditions that people must know of, with a life and a log (docs/alerts.md).

`machine` is the life of one alert, without I/O; `device` the alerts of one device; `logic` runs them on the engine.
"""

from __future__ import annotations

from .device import DeviceAlerts
from .logic import AlertLogic

__all__ = ["AlertLogic", "DeviceAlerts"]
