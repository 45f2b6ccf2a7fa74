"""The broker: the only module that uses kombu. A message has ids of rows, never the work itself.

Messages follow Celery's task protocol 2, so that ingress can wake a worker without importing a task:
https://docs.celeryq.dev/en/stable/internals/protocol.html. A test compares them with Celery's own messages.
"""

import logging
import os
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

import kombu
from kombu.exceptions import ChannelError, OperationalError
from kombu.transport.virtual import base as virtual_transport

from services.core.errors import ShopfleetError
from services.core.sentinel import SENTINEL, parse_sentinel_url
from services.core.settings import get_settings

# A host that vanished without closing its connections is noticed after 25 s, not after two hours.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}
# Without ``ack_emulation`` kombu's redis transport saves two round trips per message, and workers of celery
# 5.7.0 do not crash when the connection is lost while they have an unacknowledged message.
REDIS_OPTIONS: dict[str, Any] = {
    "ack_emulation": False,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "socket_keepalive_options": _KEEPALIVE,
    "health_check_interval": 10,
    "queue_order_strategy": "round_robin",
    "client_name": "shopfleet",
}

log = logging.getLogger(__name__)

_ORIGIN = f"{os.getpid()}@{socket.gethostname()}"
_IDS_SHOWN = 20


def _drop_messages(messages: Sequence[Any], **_: Any) -> str:
    """Log the number of messages that an unreachable broker cannot take back; the sweep sends them again."""
    log.warning("messages_not_returned", extra={"fields": {"count": len(messages)}})
    return ""


# kombu would write the messages to a temporary file that is never removed.
virtual_transport.emergency_dump_state = _drop_messages


class BrokerUnreachable(ShopfleetError):
    """The broker cannot be reached. Nothing is lost: the sweep sends the messages again."""


def is_redis(url: str) -> bool:
    """Return whether ``url`` uses the Redis protocol (Valkey, Redis, Sentinel)."""
    return url.partition("://")[0] in ("redis", "rediss", SENTINEL)


def kombu_url(url: str) -> str:
    """Return ``url`` as kombu reads it: of a URL of Sentinels one host, without passwords.

    With ``rediss`` the certificate is checked if the URL does not say otherwise; kombu would not.
    """
    if url.startswith(f"{SENTINEL}:"):
        return parse_sentinel_url(url).kombu_url
    if url.startswith("rediss:") and "ssl_cert_reqs=" not in url:
        return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"
    return url


def transport_options(url: str) -> dict[str, Any]:
    """Return kombu's options for ``url``."""
    if not is_redis(url):
        return {"confirm_publish": True}
    options = dict(REDIS_OPTIONS)
    if url.startswith(f"{SENTINEL}:"):
        from kombu.transport.redis import SentinelChannel

        SentinelChannel._sentinel_managed_pool = _open_sentinel_pool
        options["sentinel"] = parse_sentinel_url(url)
    return options


def _open_sentinel_pool(channel: Any, asynchronous: bool = False) -> Any:
    """Return the pool of connections to the current master, in place of kombu's own method.

    kombu takes the sentinels from alternate URLs, and their password from an option. Workers send both to
    everyone who may inspect them, and Flower shows them.
    """
    from services.core.sentinel_client import SentinelClient

    sentinel = channel.connection.client.transport_options["sentinel"]
    options = channel._connparams(asynchronous)
    del options["host"], options["port"]
    manager = SentinelClient(sentinel, channel.socket_timeout, **options)
    setattr(channel, "_async_sentinel_manager" if asynchronous else "_sentinel_manager", manager)
    return manager.open_pool()


def make_queue(name: str, url: str) -> kombu.Queue:
    """Return the queue ``name``: a list on Redis, a quorum queue on RabbitMQ."""
    arguments = None if is_redis(url) else {"x-queue-type": "quorum"}
    return kombu.Queue(
        name, exchange=kombu.Exchange(name, type="direct"), routing_key=name, queue_arguments=arguments
    )


def connect(url: str = "", *, timeout_seconds: float = 2.0) -> kombu.Connection:
    """Return a lazy connection with all waits limited to ``timeout_seconds``."""
    url = url or get_settings().broker_url
    options = transport_options(url)
    if is_redis(url):
        options |= {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
    else:
        options |= {"read_timeout": timeout_seconds, "write_timeout": timeout_seconds}
    return kombu.Connection(kombu_url(url), transport_options=options, connect_timeout=timeout_seconds)


def task_message(
    task: str, args: Sequence[Any], task_id: str, expires_at: datetime | None = None
) -> tuple[dict[str, Any], list[Any]]:
    """Return the headers and body of a message that calls ``task`` with ``args``.

    Workers drop it after ``expires_at``.
    """
    headers: dict[str, Any] = {
        "lang": "py",
        "task": task,
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": expires_at and expires_at.isoformat(),
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": f"({', '.join(map(_shown, args))}{',' * (len(args) == 1)})",
        "kwargsrepr": "{}",
        "origin": _ORIGIN,
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return headers, [list(args), {}, embed]


def _shown(arg: Any) -> str:
    """Return ``arg`` for people; of a long list of ids only the first."""
    if not isinstance(arg, list) or len(arg) <= _IDS_SHOWN:
        return repr(arg)
    return f"[{', '.join(map(str, arg[:_IDS_SHOWN]))}, ... {len(arg)} in all]"


class Sender:
    """Sends messages over one connection. Not thread-safe."""

    def __init__(self, url: str = "") -> None:
        self._url = url or get_settings().broker_url
        self._producer: kombu.Producer | None = None
        self._connection: kombu.Connection | None = None
        self._declared: set[str] = set()

    def send(self, queue: str, task: str, args: Sequence[Any], *, expires_at: datetime | None = None) -> None:
        """Put a message for ``task`` on ``queue``, or raise ``BrokerUnreachable`` within seconds.

        After a fault the next call opens a new connection.
        """
        task_id = str(uuid4())
        headers, body = task_message(task, args, task_id, expires_at)
        try:
            producer = self._producer or self._open()
            if queue not in self._declared:
                make_queue(queue, self._url).bind(producer.channel).declare()
                self._declared.add(queue)
            producer.publish(
                body,
                serializer="json",
                exchange="",
                routing_key=queue,
                headers=headers,
                correlation_id=task_id,
                reply_to="",
                delivery_mode=2,
                retry=False,
            )
        except (OperationalError, ConnectionError, OSError, *self._errors()) as fault:
            self.close()
            raise BrokerUnreachable(f"the broker refused a message: {type(fault).__name__}") from fault

    def count_messages(self, queues: Sequence[str]) -> dict[str, int] | None:
        """Return the messages in each queue, or None when the broker cannot be reached.

        Unlike ``queue_depths`` it keeps its connection: RabbitMQ logs each new one.
        """
        try:
            producer = self._producer or self._open()
            return _count_messages(producer.connection, self._url, queues)
        except Exception:  # noqa: BLE001 - any error means that it cannot be reached
            self.close()
            return None

    def _open(self) -> kombu.Producer:
        self._connection = connect(self._url)
        self._producer = kombu.Producer(self._connection.channel(), auto_declare=False)
        return self._producer

    def _errors(self) -> tuple[type[Exception], ...]:
        known = self._connection
        if known is None:
            return ()
        # Only the recoverable ones include a message that RabbitMQ refused.
        return (*known.connection_errors, *known.recoverable_connection_errors, *known.channel_errors)

    def close(self) -> None:
        """Drop the connection; the next send opens a new one."""
        producer, self._producer = self._producer, None
        self._declared.clear()
        if producer is not None and self._connection is not None:
            try:
                self._connection.release()
            except Exception:  # noqa: BLE001 - the connection is broken already
                return


def read_queue_depths(queues: Sequence[str]) -> dict[str, int]:
    """Return the number of messages in each queue; any error means that the broker cannot be reached."""
    with connect() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=2.0)
        return _count_messages(connection, get_settings().broker_url, queues)


def queue_depths(queues: Sequence[str]) -> dict[str, int] | None:
    """Return the number of messages in each queue, or None when the broker cannot be reached."""
    try:
        return read_queue_depths(queues)
    except Exception:  # noqa: BLE001
        return None


def _count_messages(connection: kombu.Connection, url: str, queues: Sequence[str]) -> dict[str, int]:
    if is_redis(url):
        return _redis_depths(connection, queues)
    return {queue: _depth(connection, queue) for queue in queues}


def _redis_depths(connection: kombu.Connection, queues: Sequence[str]) -> dict[str, int]:
    """Return the lengths of the lists of each queue, one per priority, in one round trip.

    With kombu's own method this takes some sixty round trips, and the sweep does it every two seconds.
    Source of the keys: https://docs.celeryq.dev/en/stable/userguide/routing.html#redis-message-priorities
    """
    channel = connection.default_channel
    with channel.client.pipeline(transaction=False) as pipe:
        for queue in queues:
            for step in channel.priority_steps:
                pipe.llen(f"{queue}{channel.sep}{step}" if step else queue)
        lengths = pipe.execute()
    steps = len(channel.priority_steps)
    return {queue: sum(lengths[n * steps : (n + 1) * steps]) for n, queue in enumerate(queues)}


def _depth(connection: kombu.Connection, queue: str) -> int:
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except ChannelError:
            return 0  # not declared yet
