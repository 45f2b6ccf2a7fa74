"""Whether the broker takes messages: without memory or disk it still accepts connections and answers."""

import time
from typing import Any, NoReturn

from services.core.broker import BrokerUnreachable, connect, is_redis
from services.core.settings import get_settings

_NO_QUEUE = "shopfleet.probe"
"""The name of no queue."""


def measure_broker(timeout_seconds: float = 2.0, url: str = "") -> float:
    """Return the milliseconds in which the broker refuses no message; raise what it answers otherwise."""
    url = url or get_settings().broker_url
    with connect(url, timeout_seconds=timeout_seconds) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=timeout_seconds)
        return send_to_no_queue(connection, url)


def ping(timeout_seconds: float = 1.0, url: str = "") -> float | None:
    """Return the broker's round trip in milliseconds, or None when it takes no message."""
    try:
        return measure_broker(timeout_seconds, url)
    except Exception:  # noqa: BLE001 - any error means that it cannot be used
        return None


def send_to_no_queue(connection: Any, url: str) -> float:
    """Send a message that no queue receives; return the milliseconds until the broker accepted it."""
    channel = connection.default_channel
    started = time.perf_counter()
    try:
        if is_redis(url):
            # LPUSHX is refused as LPUSH is, and adds nothing to a list that does not exist.
            channel.client.lpushx(_NO_QUEUE, "")
        else:
            connection.connection.on_blocked = _refuse_blocked
            connection.Producer(auto_declare=False).publish("", exchange="", routing_key=_NO_QUEUE)
    except (BrokerUnreachable, TimeoutError):
        connection.collect()  # a close waits for an answer, which a blocked connection does not get
        raise
    except Exception as fault:
        if "maxmemory" not in str(fault):
            raise
        memory = channel.client.info("memory")
        used, most = (f"{memory[name] / 1e6:.1f} MB" for name in ("used_memory", "maxmemory"))
        raise BrokerUnreachable(f"used_memory {used} of maxmemory {most}") from fault
    return (time.perf_counter() - started) * 1000


def _refuse_blocked(_reason: str) -> NoReturn:
    raise BrokerUnreachable("it blocks connections that send: a memory or disk alarm")
