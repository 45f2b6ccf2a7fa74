"""Networks of clients. Pure."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address


def find_network(address: str) -> str:
    """Return the /64 of an IPv6 address, which one subscriber has; any other address as it is."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(IPv6Network((int(found), 64), strict=False))
    return str(found if isinstance(found, IPv4Address) else found.ipv4_mapped)
