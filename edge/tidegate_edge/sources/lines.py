"""Lines of text from a stream of bytes, for devices that print a JSON object or a SenML pack per line."""

from __future__ import annotations

from tidegate_protocols.errors import BadInput

LINE_MAX = 65_536


class LineReader:
    """Bytes in, lines out. A line over `LINE_MAX` bytes is dropped whole, as BadInput."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes | BadInput]:
        """Take the bytes that came and return the lines that they completed, without their ends; empty ones not."""
        out: list[bytes | BadInput] = []
        *ended, rest = data.split(b"\n")
        for part in ended:
            line = bytes(self._buffer + part).strip()
            self._buffer.clear()
            if not self._dropping and line:
                out.append(line if len(line) <= LINE_MAX else self._too_long())
            self._dropping = False
        if not self._dropping:
            self._buffer += rest
            if len(self._buffer) > LINE_MAX:
                out.append(self._too_long())
                self._buffer.clear()
                self._dropping = True
        return out

    def _too_long(self) -> BadInput:
        return BadInput(f"a line of more than {LINE_MAX} bytes", where="serial stream")
