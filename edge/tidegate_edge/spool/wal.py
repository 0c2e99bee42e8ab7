"""SQLite's write-ahead log as bytes: whether it was damaged, and which pages are in it.

SQLite reads a log up to the first frame whose checksum is wrong and forgets the rest, which is right after a power
cut, where only what was never synced is torn, and loses acknowledged data when a synced frame was damaged. The spool
syncs the log with every commit, so a wrong frame with a whole later transaction behind it is damage.

Format: https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

_HEADER = 32
_FRAME_HEADER = 24
_MAGIC_BIG = 0x377F0683
PAGE_SIZE = 4096  # of the files that the spool makes

_Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Log:
    """Frames of the present run of a log, up to its last commit.

    pages     page number of each frame
    offsets   where in the file each frame's page begins
    damaged   frame whose checksum is wrong although it was synced, or None
    """

    page_size: int
    pages: list[int]
    offsets: list[int]
    damaged: int | None


def read_log(path: Path) -> Log | None:
    """The log at `path`; None where there is none, or none that was begun."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _HEADER + _FRAME_HEADER:
        return None
    head = np.frombuffer(data, ">u4", 8)
    order = ">u4" if head[0] == _MAGIC_BIG else "<u4"
    sound = _checksum(np.frombuffer(data, order, 6)) == (int(head[6]), int(head[7]))
    # A header that is damaged says nothing; the frames say of which run they are.
    page_size = int(head[2]) if sound else PAGE_SIZE
    size = _FRAME_HEADER + page_size
    count = (len(data) - _HEADER) // size
    if not count:
        return None
    frames = np.frombuffer(data, np.uint8, count * size, _HEADER).reshape(count, size)
    heads = frames[:, :_FRAME_HEADER].copy().view(">u4").reshape(count, 6)
    salts = (head[4], head[5]) if sound else (heads[0, 2], heads[0, 3])
    current = (heads[:, 2] == salts[0]) & (heads[:, 3] == salts[1])
    wrong = _first_wrong(frames, heads, (int(head[6]), int(head[7])), order) if sound else 0
    # Frames behind it that the log's present run wrote, by their salt; a damaged salt does not end the run.
    ours = np.flatnonzero(current)
    commits = [int(i) for i in ours if heads[i, 1]]
    last = commits[-1] if commits else -1
    # Its own transaction may be torn. A transaction that began after it began when it was synced.
    ends = [i for i in commits if i >= wrong]
    synced = not sound or (bool(ends) and bool(np.any(ours > ends[0])))
    kept = [i for i in range(last + 1) if current[i] or i == wrong]
    return Log(
        page_size,
        [int(heads[i, 0]) for i in kept],
        [_HEADER + i * size + _FRAME_HEADER for i in kept],
        wrong if synced else None,
    )


def _checksum(words: _Words) -> tuple[int, int]:
    """The sums over an even number of words, from zero."""
    a = b = 0
    for x, y in words.reshape(-1, 2).tolist():
        a = (a + x + b) & 0xFFFFFFFF
        b = (b + y + a) & 0xFFFFFFFF
    return a, b


def _first_wrong(frames: npt.NDArray[np.uint8], heads: _Words, seed: tuple[int, int], order: str) -> int:
    """Index of the first frame that does not follow from those before it; their number when all do.

    The checksum is a linear recurrence over pairs of words modulo 2**32, so a frame's share of it is a product with
    fixed weights, and only those few numbers are chained.
    """
    count = len(frames)
    if not count:
        return 0
    words = np.concatenate([frames[:, :8], frames[:, _FRAME_HEADER:]], axis=1).copy().view(order).astype(np.uint32)
    to_first, to_second, carry = _weights(words.shape[1] // 2)
    with np.errstate(over="ignore"):
        first = (words * to_first).sum(1, dtype=np.uint32)
        second = (words * to_second).sum(1, dtype=np.uint32)
    a, b = seed
    mask = 0xFFFFFFFF
    for i in range(count):
        a, b = (
            (carry[0] * a + carry[1] * b + int(first[i])) & mask,
            (carry[2] * a + carry[3] * b + int(second[i])) & mask,
        )
        if (a, b) != (int(heads[i, 4]), int(heads[i, 5])):
            return i
    return count


@lru_cache(maxsize=2)
def _weights(pairs: int) -> tuple[_Words, _Words, tuple[int, int, int, int]]:
    """What each word of a frame adds to both sums at its end, and what the sums before it do.

    A pair of words (x, y) makes (s, t) into (s + x + t, t + y + s + x + t).
    """
    mask = 0xFFFFFFFF
    first, second = np.zeros(2 * pairs, np.uint32), np.zeros(2 * pairs, np.uint32)
    a, b, c, d = 1, 0, 0, 1  # what follows the pair, as a matrix: s' = a s + b t, t' = c s + d t
    for i in range(pairs - 1, -1, -1):
        # x enters as (1, 1), y as (0, 1).
        first[2 * i], second[2 * i] = (a + b) & mask, (c + d) & mask
        first[2 * i + 1], second[2 * i + 1] = b, d
        # The pair itself: s' = s + t, t' = s + 2 t.
        a, b, c, d = (a + b) & mask, (a + 2 * b) & mask, (c + d) & mask, (c + 2 * d) & mask
    return first, second, (a, b, c, d)
