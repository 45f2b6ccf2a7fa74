"""Every kind of work, in one table: its name everywhere, its queue, how it runs and how it is tried again.

``order_ingest`` here is ``work_queue.topic``, the Celery task in Flower, the label in metrics and the
heading in the runbook.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from services.providers.registry import PROVIDERS

QUEUES = ("webhooks", "inventory", "reconciliation", "email", "sync", "reports", "ops")


class Mode(StrEnum):
    """How an item meets the database."""

    TRANSACTIONAL = "transactional"
    """The effect is ours: claimed, done and settled in one transaction. Exactly once."""
    EXTERNAL = "external"
    """The effect is on the world: claimed, done with no transaction open, settled in another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One kind of work. ``lease`` must outlast ``renew`` several times; tries count the first one."""

    name: str
    queue: str
    mode: Mode
    batch_size: int = 1000
    """Most items one claim takes."""
    shop_cap: int = 1000
    """Most items of one shop in hand at once, over all workers (``EXTERNAL`` only)."""
    calls_at_once: int = 16
    """Calls that one worker process has open at the same time (``EXTERNAL`` only)."""
    tries: int = 12
    backoff_base: timedelta = timedelta(seconds=5)
    backoff_cap: timedelta = timedelta(hours=1)
    lease: timedelta = timedelta(seconds=30)
    soft_time_limit_seconds: int = 60
    time_limit_seconds: int = 90
    provider: str = ""
    """Whose rate limit a claim must have tokens for; empty means none."""
    cost_points: float = 0.0
    """Tokens one call takes from that limit, until the provider has said what it costs."""
    call_items: int = 1
    """Most items that one call carries."""


def _own(name: str, queue: str = "webhooks") -> Topic:
    return Topic(
        name=name, queue=queue, mode=Mode.TRANSACTIONAL, soft_time_limit_seconds=20, time_limit_seconds=30
    )


def _job(name: str, queue: str = "reports") -> Topic:
    """One run of a job at a time a worker: it may take minutes, and is tried again a few times only."""
    return Topic(
        name=name,
        queue=queue,
        mode=Mode.EXTERNAL,
        batch_size=1,
        shop_cap=1,
        tries=5,
        backoff_base=timedelta(seconds=30),
        soft_time_limit_seconds=1800,
        time_limit_seconds=2100,
    )


def _call(name: str) -> Topic:
    """A small call to a service that watches or counts. Days of tries: it is never urgent."""
    return Topic(
        name=name,
        queue="sync",
        mode=Mode.EXTERNAL,
        batch_size=32,
        shop_cap=32,
        tries=20,
        soft_time_limit_seconds=60,
        time_limit_seconds=90,
    )


_ALL = (
    _own("order_ingest"),
    _own("refund_ingest"),
    _own("product_ingest"),
    _own("inventory_level_ingest"),
    _own("order_transaction_ingest"),
    _own("fulfillment_ingest"),
    _own("inventory_item_ingest"),
    _own("location_ingest"),
    _own("fulfillment_order_ingest"),
    _own("fulfillment_event_ingest"),
    _own("return_ingest"),
    _own("reverse_fulfillment_order_ingest"),
    _own("order_notice_ingest"),
    _own("tender_transaction_ingest"),
    _own("shopify_dispute_ingest"),
    _own("variant_stock_ingest"),
    _own("inventory_transfer_ingest"),
    _own("inventory_shipment_ingest"),
    _own("customer_ingest"),
    _own("storefront_ingest"),
    _own("transaction_ingest"),
    _own("interaction_ingest"),
    _own("event_review"),
    Topic(
        name="inventory_push",
        queue="inventory",
        mode=Mode.EXTERNAL,
        batch_size=1000,
        shop_cap=250,
        call_items=250,
        soft_time_limit_seconds=120,
        time_limit_seconds=180,
    ),
    Topic(
        name="reconcile",
        queue="reconciliation",
        mode=Mode.EXTERNAL,
        batch_size=1,
        shop_cap=1,
        tries=8,
        backoff_base=timedelta(seconds=30),
        soft_time_limit_seconds=600,
        time_limit_seconds=900,
    ),
    Topic(
        name="mail_send",
        queue="email",
        mode=Mode.EXTERNAL,
        batch_size=400,
        shop_cap=1000,
        calls_at_once=64,
        soft_time_limit_seconds=120,
        time_limit_seconds=180,
    ),
    Topic(
        name="event_fetch",
        queue="sync",
        mode=Mode.EXTERNAL,
        batch_size=32,
        shop_cap=16,
        soft_time_limit_seconds=120,
        time_limit_seconds=180,
    ),
    Topic(
        name="uninstall_confirm",
        queue="sync",
        mode=Mode.EXTERNAL,
        batch_size=16,
        soft_time_limit_seconds=120,
        time_limit_seconds=180,
    ),
    Topic(
        name="privacy_export",
        queue="ops",
        mode=Mode.EXTERNAL,
        batch_size=1,
        shop_cap=1,
        soft_time_limit_seconds=600,
        time_limit_seconds=900,
    ),
    Topic(
        name="privacy_redact",
        queue="ops",
        mode=Mode.EXTERNAL,
        batch_size=1,
        shop_cap=1,
        soft_time_limit_seconds=600,
        time_limit_seconds=900,
    ),
    _job("gap_heal", "reconciliation"),
    _job("subscription_watch", "reconciliation"),
    _job("owner_digest"),
    _job("month_close"),
    _job("audit_verify"),
    _job("audit_anchor"),
    _job("audit_archive"),
    _call("sentry_checkin"),
    _call("posthog_capture"),
)

_LIMITS = {
    topic: (provider.name, points) for provider in PROVIDERS for topic, points in provider.call_points.items()
}


def _with_limit(topic: Topic) -> Topic:
    provider, points = _LIMITS.get(topic.name, ("", 0.0))
    return replace(topic, provider=provider, cost_points=points)


TOPICS = MappingProxyType({topic.name: _with_limit(topic) for topic in _ALL})
