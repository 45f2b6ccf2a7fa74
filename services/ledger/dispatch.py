"""Dispatch: sends messages to the workers for committed rows. The sweep replaces messages that are lost."""

import threading
from collections.abc import Iterable, Sequence

from services.core.broker import BrokerUnreachable, Sender
from services.ledger.accept import WorkRef
from services.ledger.topics import TOPICS

MAX_SINGLE_ITEMS = 8
"""Up to this many items have a message each, so that Flower shows each item."""

_senders = threading.local()


def plan_messages(refs: Iterable[WorkRef]) -> list[tuple[str, str, list[int]]]:
    """Return the messages (queue, topic, ids) for ``refs``: one per item if few, else one per batch."""
    by_topic: dict[tuple[str, str], list[int]] = {}
    for ref in refs:
        by_topic.setdefault((ref.queue, ref.topic), []).append(ref.id)
    messages: list[tuple[str, str, list[int]]] = []
    for (queue, topic), ids in by_topic.items():
        size = 1 if len(ids) <= MAX_SINGLE_ITEMS else TOPICS[topic].batch_size
        messages += [(queue, topic, ids[start : start + size]) for start in range(0, len(ids), size)]
    return messages


def send_messages(refs: Sequence[WorkRef]) -> bool:
    """Send the messages of ``refs``; return whether the broker took all. The sweep sends the others later."""
    sender = get_sender()
    try:
        for queue, topic, ids in plan_messages(refs):
            sender.send(queue, topic, [ids])
    except BrokerUnreachable:
        return False
    return True


def get_sender() -> Sender:
    sender: Sender | None = getattr(_senders, "sender", None)
    if sender is None:
        sender = _senders.sender = Sender()
    return sender


def reset_sender() -> None:
    """Drop this thread's connection. Call it after a fork, because the connection is the parent's."""
    _senders.__dict__.clear()
