"""``TRUSTED_PROXIES`` is a list of addresses and networks, and each wrong one is named at start."""

from ipaddress import ip_network

import pytest

from services.core.errors import SettingsInvalid
from services.core.settings import Settings, read_settings

GOOD = {
    "DATABASE_URL": "postgresql://u:p@127.0.0.1/d",
    "BROKER_URL": "redis://127.0.0.1:6379/0",
    "SECRET_KEY": "k" * 32,
}


def read(value: str) -> Settings:
    return read_settings({**GOOD, "TRUSTED_PROXIES": value})


def test_addresses_and_networks_are_read() -> None:
    assert read("").trusted_proxies == ()
    assert read("10.0.0.4, 172.16.0.0/12,,2001:db8::/32 ").trusted_proxies == (
        ip_network("10.0.0.4/32"),
        ip_network("172.16.0.0/12"),
        ip_network("2001:db8::/32"),
    )


def test_every_wrong_entry_is_named_with_the_other_faults() -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings({**GOOD, "TRUSTED_PROXIES": "proxy.local,10.0.0.1/8,10.0.0.0/8", "INGRESS_PORT": "x"})

    message = str(refused.value)
    for part in ("'proxy.local'", "'10.0.0.1/8'"):
        assert f"TRUSTED_PROXIES={part} should be an address such as 10.0.0.4" in message
    assert "INGRESS_PORT='x'" in message
    assert "'10.0.0.0/8' should" not in message
