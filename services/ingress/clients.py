"""The client's address: the socket's, or the one that a trusted proxy reports. Pure."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def find_client(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the client's address: that of ``peer`` (``host:port``), unless ``peer`` is a trusted proxy.

    Then it is the right-most address of the ``X-Forwarded-For`` values ``forwarded`` that is not itself
    trusted: the client can write anything left of it. An entry that is no address ends the search at the
    address before it.
    """
    client = _parse(peer)
    if client is None or not _is_trusted(client, trusted):
        return peer.rpartition(":")[0] if client is None else str(client)
    for entry in reversed(",".join(forwarded).split(",")):
        found = _parse(entry.strip())
        if found is None:
            break
        client = found
        if not _is_trusted(client, trusted):
            break
    return str(client)


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _parse(text: str) -> Address | None:
    """Return the address in ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
