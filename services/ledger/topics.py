"""Topics: the kinds of work, with queue, mode, limits and retry policy; and the topic of each event. Pure.

A topic's name, such as ``order_ingest``, is ``work_queue.topic``, the Celery task in Flower, the label in
metrics and the heading in the runbook. Retry policy: exponential backoff with full jitter. The longest waits
in seconds:

- most work (12 tries): 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600: 2 h 25 min in all.
- jobs (5 tries): 30, 60, 120, 240: 7.5 min in all.
- reconciliation (8 tries): 30, 60, 120, 240, 480, 960, 1920: 63.5 min in all.
- small calls such as ``posthog_capture`` (20 tries): as most work, then 3600 eight times: 10 h 25 min in all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from random import Random

from services.providers.registry import PROVIDERS, find_provider

COSTS = ("ai", "sms")
"""Kinds of metered costs: see ``services.costs``."""

QUEUES = ("webhooks", "inventory", "reconciliation", "email", "sync", "reports", "ops")


class HandlerMode(StrEnum):
    """The system in which an item has its effect."""

    TRANSACTIONAL = "transactional"
    """In this database: claimed, done and settled in one transaction, exactly once."""
    EXTERNAL = "external"
    """In another system: claimed, called with no transaction open, settled in a second transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One kind of work. ``lease`` is several renewals long; ``tries`` includes the first one."""

    name: str = ""
    queue: str = ""
    mode: HandlerMode = HandlerMode.EXTERNAL
    batch_size: int = 1000
    """Most items of one claim."""
    shop_cap: int = 1000
    """Most locked items of one shop, over all workers (``EXTERNAL`` only)."""
    calls_at_once: int = 16
    """Calls that one worker process makes at the same time (``EXTERNAL`` only)."""
    tries: int = 12
    backoff_base: timedelta = timedelta(seconds=5)
    backoff_cap: timedelta = timedelta(hours=1)
    lease: timedelta = timedelta(seconds=30)
    soft_time_limit_seconds: int = 120
    time_limit_seconds: int = 180
    max_age: timedelta = timedelta(minutes=15)
    """Older ready work of a growing backlog is an incident (``backlog_growing``)."""
    provider: str = ""
    """The provider whose rate limit applies; empty: none."""
    cost_points: float = 0.0
    """Tokens of one call, until the provider has reported its cost."""
    call_items: int = 1
    """Most items of one call."""
    cost: str = ""
    """The kind of metered cost (of ``COSTS``) that its calls cause; empty: none."""


_INGESTS = (
    "order_ingest", "refund_ingest", "product_ingest", "inventory_level_ingest", "order_transaction_ingest",
    "fulfillment_ingest", "inventory_item_ingest", "location_ingest", "fulfillment_order_ingest",
    "fulfillment_event_ingest", "return_ingest", "reverse_fulfillment_order_ingest", "order_notice_ingest",
    "tender_transaction_ingest", "shopify_dispute_ingest", "variant_stock_ingest",
    "inventory_transfer_ingest", "inventory_shipment_ingest", "customer_ingest", "storefront_ingest",
    "transaction_ingest", "interaction_ingest", "contact_ingest",
    "mail_ingest", "event_review",
)  # fmt: skip
_INGEST = Topic(
    queue="webhooks",
    mode=HandlerMode.TRANSACTIONAL,
    soft_time_limit_seconds=20,
    time_limit_seconds=30,
    max_age=timedelta(minutes=5),
)
# One item of a shop at a time: it may take minutes.
_LONG = Topic(
    batch_size=1,
    shop_cap=1,
    soft_time_limit_seconds=600,
    time_limit_seconds=900,
    max_age=timedelta(hours=1),
)
_JOB = replace(
    _LONG, tries=5, backoff_base=timedelta(seconds=30), soft_time_limit_seconds=1800, time_limit_seconds=2100
)
# A small call to a monitoring or analytics service: not urgent, so it is retried for many hours.
_CALL = Topic(
    queue="sync",
    batch_size=32,
    shop_cap=32,
    tries=20,
    soft_time_limit_seconds=60,
    time_limit_seconds=90,
    max_age=timedelta(hours=1),
)

# A call waits for the request budget of its workspace: few at a time of a shop, and a thread for each.
_NOTION = Topic(queue="sync", batch_size=32, shop_cap=8, calls_at_once=32, max_age=timedelta(hours=1))

_ALL = (
    *(replace(_INGEST, name=name) for name in _INGESTS),
    Topic(name="bulk_action", queue="ops", mode=HandlerMode.TRANSACTIONAL, batch_size=1),
    Topic(name="inventory_push", queue="inventory", shop_cap=250, call_items=250),
    replace(_LONG, name="reconcile", queue="reconciliation", tries=8, backoff_base=timedelta(seconds=30)),
    Topic(name="mail_send", queue="email", batch_size=400, calls_at_once=64),
    replace(_INGEST, name="mail_event", queue="email"),
    # One address of a transaction: two of them lock people in one order.
    replace(_INGEST, name="consent_withdraw", queue="email", batch_size=1),
    Topic(name="event_fetch", queue="sync", batch_size=32, shop_cap=16),
    Topic(name="uninstall_confirm", queue="sync", batch_size=16),
    replace(_LONG, name="privacy_export", queue="ops"),
    replace(_LONG, name="privacy_redact", queue="ops"),
    replace(_JOB, name="gap_heal", queue="reconciliation"),
    replace(_JOB, name="subscription_watch", queue="reconciliation"),
    replace(_JOB, name="owner_digest", queue="reports"),
    replace(_JOB, name="owner_letter", queue="reports"),
    Topic(name="letter_send", queue="email", mode=HandlerMode.TRANSACTIONAL, batch_size=50),
    replace(_JOB, name="month_close", queue="reports"),
    replace(_JOB, name="sms_cost_read", queue="sync"),
    replace(_JOB, name="conversation_backfill", queue="sync"),
    replace(_JOB, name="canvas_refresh", queue="sync"),
    replace(_JOB, name="notion_drift", queue="sync"),
    replace(_JOB, name="audit_verify", queue="reports"),
    replace(_JOB, name="audit_anchor", queue="reports"),
    replace(_JOB, name="audit_archive", queue="reports"),
    replace(_JOB, name="retention", queue="reports"),
    replace(_JOB, name="due_reports", queue="reports"),
    replace(_JOB, name="bounce_read", queue="email"),
    replace(_LONG, name="report_send", queue="reports", tries=8, backoff_base=timedelta(seconds=30)),
    replace(_JOB, name="outreach", queue="email"),
    Topic(
        name="outreach_compose",
        queue="email",
        mode=HandlerMode.TRANSACTIONAL,
        batch_size=1,
        soft_time_limit_seconds=60,
        time_limit_seconds=90,
    ),
    replace(_NOTION, name="notion_find"),
    Topic(name="interaction_fetch", queue="sync", batch_size=64, shop_cap=32),
    replace(_INGEST, name="interaction_enrich", queue="sync"),
    Topic(name="interaction_summarize", queue="sync", batch_size=32, shop_cap=8, cost="ai"),
    Topic(name="interaction_embed", queue="sync", batch_size=32, shop_cap=8, cost="ai"),
    replace(_NOTION, name="notion_write"),
    replace(_INGEST, name="interaction_note", queue="sync"),
    replace(_INGEST, name="stage_sync", queue="sync"),
    replace(_CALL, name="sentry_checkin"),
    replace(_CALL, name="posthog_capture"),
    replace(_CALL, name="alert_send", queue="ops", max_age=timedelta(minutes=5)),
)

_LIMITS = {
    topic: (provider.name, points) for provider in PROVIDERS for topic, points in provider.call_points.items()
}


def _with_limit(topic: Topic) -> Topic:
    provider, points = _LIMITS.get(topic.name, ("", 0.0))
    return replace(topic, provider=provider, cost_points=points)


TOPICS: Mapping[str, Topic] = {topic.name: _with_limit(topic) for topic in _ALL}


@lru_cache(maxsize=1024)
def plan_topic(provider: str, topic: str) -> Topic | None:
    """Return the topic of the work for an event of ``provider`` with its ``topic``.

    None is not an error: providers send topics that have no handler, and the event is stored.
    """
    found = find_provider(provider)
    if found is None:
        return None
    source = provider.partition(":")[2]
    if source in found.source_topics:
        return TOPICS[found.source_topics[source]]
    return next((TOPICS[name] for pattern, name in found.topics if fnmatchcase(topic, pattern)), None)


def plan_next_try(
    topic: Topic, retry_count: int, wait: timedelta | None, now: datetime, rng: Random
) -> datetime:
    """Return the time of the next try after failed try number ``retry_count`` (from 1).

    The backoff is uniform between 0 and ``backoff_base * 2 ** (retry_count - 1)``, at most ``backoff_cap``,
    so that items that failed together are not retried together. A longer ``wait`` from the provider replaces
    it.
    """
    ceiling: timedelta = min(topic.backoff_cap, topic.backoff_base * (1 << min(retry_count - 1, 30)))
    return now + max(ceiling * rng.random(), wait or timedelta())
