"""The address of a client: headers written by the client are never trusted."""

from ipaddress import ip_network

import pytest

from services.ingress.connections import find_client

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1:4000", [], "192.0.2.1"),
        ("192.0.2.1:4000", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1:4000", [], "10.0.0.1"),
        ("10.0.0.1:4000", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1:4000", ["203.0.113.9, 198.51.100.7, 10.2.3.4"], "198.51.100.7"),
        ("10.0.0.1:4000", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1:4000", ["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
        ("10.0.0.1:4000", ["198.51.100.7, nonsense, 10.2.3.4"], "10.2.3.4"),
        ("10.0.0.1:4000", [""], "10.0.0.1"),
        ("10.0.0.1:4000", ["198.51.100.7:51000"], "198.51.100.7"),
        ("[2001:db8::1]:4000", ["[2001:dead::7]:51000"], "2001:dead::7"),
        ("[2001:dead::1]:4000", ["198.51.100.7"], "2001:dead::1"),
        ("[::ffff:10.0.0.1]:4000", ["198.51.100.7"], "198.51.100.7"),
    ],
)
def test_client_is_the_right_most_address_that_no_trusted_proxy_has(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert find_client(peer, forwarded, TRUSTED) == client


def test_without_trusted_proxies_the_socket_alone_counts() -> None:
    assert find_client("127.0.0.1:1", ["198.51.100.7"], []) == "127.0.0.1"
