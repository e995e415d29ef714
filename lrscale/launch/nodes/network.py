"""Under which address of this machine the other nodes of an allocation find it."""

from __future__ import annotations

import os
import socket

LOOPBACK = "127.0.0.1"
INTERFACE_VARIABLE = "GLOO_SOCKET_IFNAME"
"""By it users say which network gloo takes; what nodes say to each other goes the same way."""


def own_address(hint: str | None) -> str:
    """Return the IPv4 address of this machine on the network that it shares with `hint`.

    Parameters
    ----------
    hint : str or None
        Name or address of a machine of that network, which may be this one. The interface that ``GLOO_SOCKET_IFNAME``
        names goes before it.

    Examples
    --------
    >>> own_address("127.0.0.1")
    '127.0.0.1'
    """
    chosen = os.environ.get(INTERFACE_VARIABLE)
    if chosen:
        found = next((address for address, name in _addresses() if name == chosen), None)
        if found is not None:
            return found
    if hint in ("localhost", "::1") or (hint or "").startswith("127."):
        return LOOPBACK
    route = _route_to(hint) if hint else None
    if route is not None and not route.startswith("127."):
        return route
    # Some systems give a machine's own name an address of the loopback network, where no other node reaches it.
    return next((address for address, _ in _addresses() if not address.startswith("127.")), LOOPBACK)


def interface_of(address: str) -> str | None:
    """Return the name of the interface that has an address, as GLOO_SOCKET_IFNAME takes it; None when none has."""
    return next((name for own, name in _addresses() if own == address), None)


def _addresses() -> list[tuple[str, str]]:
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        (entry.address, name)
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family == socket.AF_INET and name in up
    ]
    # Bridges of containers lead to no other node.
    return sorted(found, key=lambda pair: pair[1].startswith(("docker", "br-", "virbr", "veth", "cni")))


def _route_to(host: str) -> str | None:
    """Return the address from which this machine would talk to a host; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((socket.gethostbyname(host), 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
