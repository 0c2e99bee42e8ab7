"""Reading the spool in order, from memory while live and from the disk while behind."""

from __future__ import annotations

from functools import partial

from tidegate_protocols.errors import BadInput

from .rows import ROW_OVERHEAD, Chunk, decode_head, is_lost
from .spool import Spool
from .store import find_head, find_tail, read_chunks

_READ_BYTES = 128 * 1024
_TAIL_BYTES = 128 * 1024


class Reader:
    """Goes through the chunks of a spool by id.

    behind    whether the last chunks came from the disk
    memory    whether chunks are taken from memory when they are there. What one reader takes is gone from there, so
              only one reader of a spool may have this set at a time
    """

    def __init__(self, spool: Spool, *, memory: bool = True) -> None:
        self.behind = False
        self.memory = memory
        self.position = 0
        self._spool = spool

    async def rewind(self) -> None:
        """Begin again at the oldest chunk."""
        self.position = await self._spool.query(partial(find_head, newest=self._spool.last_id))

    async def skip_to_tail(self) -> None:
        """Go to where only the newest chunks follow, some 128 KiB of them."""
        self.position = await self._spool.query(partial(find_tail, limit=_TAIL_BYTES))

    @property
    def at_end(self) -> bool:
        """Whether there is nothing to read just now."""
        return self.position >= self._spool.last_id

    async def read(self) -> list[Chunk]:
        """The next chunks in order, some 128 KiB at most from the disk; empty at the end.

        A chunk that cannot be read back makes the spool mend its file, and what follows is read from the mended one.
        """
        if self.at_end:
            return []
        chunks = self._spool.recent(self.position) if self.memory else []
        self.behind = not chunks
        if not chunks:
            upto = self._spool.last_id
            try:
                rows = await self._spool.query(partial(read_chunks, after=self.position, limit=_READ_BYTES))
                chunks = [self._chunk(*row) for row in rows]
            except Exception as error:
                if not await self._spool.mend(error):
                    raise
                return []
            if not chunks:
                self.position = max(upto, self.position)
                return []
        self.position = chunks[-1].id
        return chunks

    def _chunk(self, chunk_id: int, data: bytes) -> Chunk:
        _, number, seq, n, flags, stored_s = decode_head(data)
        stream = self._spool.by_number(number)
        lost = "lost in a damaged file" if is_lost(data) else ""
        chunk = Chunk(chunk_id, stream, seq, n, flags, stored_s, [], [], data, len(data) + ROW_OVERHEAD, lost)
        if n < 1 or seq < 0 or stream.next_seq < seq + n:
            raise BadInput(f"a chunk of {stream.device} names scans that were never stored")
        return chunk
