"""Free TCP ports on the loopback address."""

from __future__ import annotations

import random
import socket
from contextlib import closing

# Below the range from which Linux takes the ports of outgoing connections (32768 and up): a client that keeps
# knocking at a stopped server's port there can be given that very port, connect to itself and keep the server out.
_LOWEST, _HIGHEST = 15_000, 30_000
_TRIES = 200


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port` now."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections on `port` now."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on. Another program may take it before the caller does. Raises OSError."""
    for _ in range(_TRIES):
        port = random.randint(_LOWEST, _HIGHEST)
        if is_free(port, host):
            return port
    raise OSError(f"no free port between {_LOWEST} and {_HIGHEST} on {host} in {_TRIES} tries")
