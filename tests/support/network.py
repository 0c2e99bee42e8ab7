"""A link that loses packets in silence: a network namespace behind a router that forwards, or does not. Needs root.

    this namespace 10.77.0.1 ── 10.77.0.2 router 10.77.0.5 ── 10.77.0.6 the far side

Neither end is told when the router stops: no reset, no unreachable host, no carrier that is lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess

ADDRESS = "10.77.0.1"  # of this namespace, as the far side reaches it
_NET, _FAR, _ROUTER = f"tide{os.getpid()}", f"tide-far-{os.getpid()}", f"tide-router-{os.getpid()}"


def available() -> bool:
    """Whether this user may make network namespaces."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


class LossyLink:
    """Use as a context manager; one at a time."""

    inside = ("ip", "netns", "exec", _FAR)  # what runs a command on the far side

    def __enter__(self) -> LossyLink:
        try:
            for command in _SETUP.strip().splitlines():
                _run(command)
            self.restore()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (_FAR, _ROUTER):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def drop(self) -> None:
        """Lose every packet from here on."""
        _run(f"ip netns exec {_ROUTER} sysctl -qw net.ipv4.ip_forward=0")

    def restore(self) -> None:
        _run(f"ip netns exec {_ROUTER} sysctl -qw net.ipv4.ip_forward=1")


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, text=True)


_SETUP = f"""
ip netns add {_FAR}
ip netns add {_ROUTER}
ip link add {_NET} type veth peer name near netns {_ROUTER}
ip link add far netns {_ROUTER} type veth peer name uplink netns {_FAR}
ip addr add {ADDRESS}/30 dev {_NET}
ip link set {_NET} up
ip -n {_ROUTER} addr add 10.77.0.2/30 dev near
ip -n {_ROUTER} link set near up
ip -n {_ROUTER} addr add 10.77.0.5/30 dev far
ip -n {_ROUTER} link set far up
ip -n {_FAR} addr add 10.77.0.6/30 dev uplink
ip -n {_FAR} link set uplink up
ip -n {_FAR} link set lo up
ip -n {_FAR} route add default via 10.77.0.5
ip route add 10.77.0.4/30 via 10.77.0.2
"""
