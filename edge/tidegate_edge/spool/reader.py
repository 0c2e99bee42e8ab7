"""Reading the spool in order, from memory while live and from the disk while behind."""

from __future__ import annotations

from functools import partial

from tidegate_protocols.errors import BadInput

from .rows import Chunk, decode_chunk
from .spool import Spool
from .store import read_chunks

_READ_BYTES = 512 * 1024


class Reader:
    """Goes through the chunks of a spool by id. There is one: what it takes from memory is gone from there.

    behind    whether the last chunks came from the disk
    """

    def __init__(self, spool: Spool) -> None:
        self.behind = False
        self._spool = spool
        self._after = 0

    def rewind(self) -> None:
        """Begin again at the oldest chunk."""
        self._after = 0

    @property
    def at_end(self) -> bool:
        """Whether there is nothing to read just now."""
        return self._after >= self._spool.last_id

    async def read(self) -> list[Chunk]:
        """The next chunks in order, some 512 KiB at most from the disk; empty at the end.

        A chunk that cannot be read back has `damaged` set.
        """
        if self.at_end:
            return []
        chunks = self._spool.recent(self._after)
        self.behind = not chunks
        if chunks:
            self._after = chunks[-1].id
            return chunks
        upto = self._spool.last_id
        rows = await self._spool.database.run(partial(read_chunks, after=self._after, limit=_READ_BYTES))
        for chunk_id, number, seq, n, flags, committed_ms, size, data in rows:
            stream = self._spool.by_number(number)
            chunk = Chunk(chunk_id, stream, seq, flags, committed_ms, [], [], size)
            try:
                chunk.ts, chunk.values = decode_chunk(data, n, len(stream.schema.channels))
            except BadInput as error:
                chunk.ts, chunk.damaged = [0] * n, str(error)
            chunks.append(chunk)
        self._after = chunks[-1].id if chunks else max(upto, self._after)
        return chunks
