"""Which work follows from an event. Pure: no clock, no database, no network."""

from fnmatch import fnmatchcase
from functools import lru_cache

from services.ledger.topics import TOPICS, Topic
from services.providers.registry import find_provider


@lru_cache(maxsize=1024)
def plan_topic(provider: str, topic: str) -> Topic | None:
    """Return the work that follows from an event of ``provider`` and ``topic``, or None.

    None is no error: providers send topics that nothing handles, and the event is kept.
    """
    found = find_provider(provider)
    for pattern, name in found.topics if found else ():
        if fnmatchcase(topic, pattern):
            return TOPICS[name]
    return None


def plan_review(provider: str, topic: str) -> Topic:
    """Return the topic under which an event that cannot be read waits for a person."""
    return plan_topic(provider, topic) or TOPICS["event_review"]
