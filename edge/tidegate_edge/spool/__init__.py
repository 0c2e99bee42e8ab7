"""The spool: where a scan is durable from its acknowledgement to its source until Kafka has it. See `spool.spool`."""

from __future__ import annotations

from .books import Books, SourceBook
from .rows import Chunk, Stream
from .spool import Spool

__all__ = ["Books", "Chunk", "SourceBook", "Spool", "Stream"]
