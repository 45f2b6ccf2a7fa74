"""The Valkey of ``BROKER_URL`` as a store of copies: what it loses is read from the database again."""

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from services.core.sentinel import SENTINEL, parse_sentinel_url
from services.core.settings import get_settings

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")
SECONDS = 0.5
"""The longest wait for an answer: a copy that comes later is of no use."""
REST_SECONDS = 5.0
"""After a fault no call is made for so long, so that work does not wait for each."""
_log = logging.getLogger(__name__)


class ValkeyCopies:
    """A client with a pool of connections. ``client`` is None if the broker is RabbitMQ."""

    def __init__(self, url: str) -> None:
        self._rests_until = 0.0
        self.client = _open(url)

    def call(self, act: "Callable[[Redis], T]") -> T | None:
        """Return ``act`` of the client; None if there is none, or if it does not answer."""
        from redis.exceptions import RedisError

        if self.client is None or time.monotonic() < self._rests_until:
            return None
        try:
            return act(self.client)
        except (RedisError, OSError) as fault:
            self._rests_until = time.monotonic() + REST_SECONDS
            _log.warning("valkey_unreachable", extra={"fields": {"error": type(fault).__name__}})
            return None


def _open(url: str) -> "Redis | None":
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    if not url.startswith(("redis:", "rediss:", f"{SENTINEL}:")):
        return None
    options = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS, "decode_responses": True}
    if url.startswith(f"{SENTINEL}:"):
        from services.core.sentinel_client import SentinelClient

        return Redis(connection_pool=SentinelClient(parse_sentinel_url(url), SECONDS, **options).open_pool())
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)


@cache
def _get(url: str) -> ValkeyCopies:
    return ValkeyCopies(url)


def get_copies() -> ValkeyCopies:
    """Return the process's client of the Valkey of ``BROKER_URL``."""
    return _get(get_settings().broker_url)
