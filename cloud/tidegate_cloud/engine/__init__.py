"""The engine: runs a Logic on Kafka exactly once, with nothing to operate but Kafka (docs/engine.md).

`logic` is the border to what is run, `runner` runs it on Kafka, `inprocess` in a for-loop, `telemetry` is the Logic
that turns frames into events.
"""

from __future__ import annotations

from .logic import Logic, MicroBatch, Output, Outputs, Record, RowKey

__all__ = ["Logic", "MicroBatch", "Output", "Outputs", "Record", "RowKey"]
