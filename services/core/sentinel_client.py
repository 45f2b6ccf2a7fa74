"""Client of the Redis Sentinels of ``BROKER_URL``."""

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from services.core.sentinel import SentinelUrl

LONGEST_WAIT_SECONDS = 0.5
"""Wait for one sentinel; the next one knows the same master."""

Address = tuple[str, int]

_answered: dict[tuple[Address, ...], Address] = {}
"""Of each list of sentinels the one that answered last: a new client asks it first."""


class SentinelClient(Sentinel):
    """Finds the current master, and tries every sentinel once and the master within ``seconds``.

    ``master_options`` are redis-py's options of connections to the master.
    """

    def __init__(self, url: SentinelUrl, seconds: float, **master_options: Any) -> None:
        wait = min(LONGEST_WAIT_SECONDS, seconds / (len(url.sentinels) + 1))
        options = {
            "username": url.sentinel_user or None,
            "password": url.sentinel_password or None,
            "socket_timeout": wait,
            "socket_connect_timeout": wait,
            "retry": Retry(NoBackoff(), 0),
        }
        if url.tls:
            checks_name = url.tls.get("ssl_check_hostname") != "false"
            options |= {"ssl": True, **url.tls, "ssl_check_hostname": checks_name}
        login = {"username": url.user or None, "password": url.password or None, "db": url.database}
        hosts = sorted(url.sentinels, key=lambda address: address != _answered.get(url.sentinels))
        super().__init__(hosts, sentinel_kwargs=options, **(master_options | login))  # type: ignore[no-untyped-call]
        self._url = url

    def open_pool(self) -> ConnectionPool:
        """Return a pool whose new connections go to the current master."""
        return self.master_for(self._url.master).connection_pool  # type: ignore[no-untyped-call,no-any-return]

    def discover_master(self, service_name: str) -> Address:
        """Return the address of the master ``service_name``; the error names the sentinels in one line."""
        try:
            host, port = super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            tried = ", ".join(f"{host}:{port}" for host, port in self._url.sentinels)
            text = f"no sentinel of {tried} answers with a working master {service_name!r}"
            raise MasterNotFoundError(text) from None
        _answered[self._url.sentinels] = find_address(self.sentinels[0])  # redis-py puts it first
        return str(host), int(port)


def find_address(sentinel: Redis) -> Address:
    """Return host and port of one sentinel."""
    options = sentinel.connection_pool.connection_kwargs
    return options["host"], options["port"]
