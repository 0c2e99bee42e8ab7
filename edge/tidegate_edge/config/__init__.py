"""The agent's configuration: one TOML file, checked in full before anything starts (docs/agent.md).

Every problem is reported, each with its key and line; unknown keys are refused.
"""

from __future__ import annotations

from .problems import BadConfig
from .reading import load, parse
from .sources import (
    ModbusRegister,
    ModbusSlave,
    ModbusSource,
    MqttSource,
    SerialSource,
    SourceSettings,
    Subscription,
    TlsSettings,
)
from .tables import Config, OtaSettings, WindowSettings

__all__ = [
    "BadConfig",
    "Config",
    "ModbusRegister",
    "ModbusSlave",
    "ModbusSource",
    "MqttSource",
    "OtaSettings",
    "SerialSource",
    "SourceSettings",
    "Subscription",
    "TlsSettings",
    "WindowSettings",
    "load",
    "parse",
]
