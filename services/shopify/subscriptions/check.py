"""Job ``subscription-watchdog``: creates deleted webhook subscriptions again, imports their missed events.

A deleted subscription causes no error: webhooks just stop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.audit.append import AuditEntry, append_all
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused
from services.core.fields import find_object
from services.core.settings import get_settings
from services.core.times import format_time
from services.jobs.handler import JobResult, JobRun
from services.ledger.work import FollowUp
from services.providers.call_outcomes import optional_calls
from services.providers.shopify_documents import CREATE_SUBSCRIPTION, DELETE_SUBSCRIPTION, LIST_SUBSCRIPTIONS
from services.shopify.backfill.pager import Pager
from services.shopify.backfill.run import NO_ACCESS, BackfillStats, backfill_shopify
from services.shopify.shop_access import open_admin
from services.shopify.subscriptions.plan import (
    ENUM_TOPICS,
    MAX_FAILURE_TIME,
    Subscription,
    SubscriptionDiff,
    compare_subscriptions,
    find_outage_start,
    topic_to_enum,
)
from services.shopify.subscriptions.store import (
    find_last_received,
    list_stored_subscriptions,
    mark_subscriptions_lost,
    record_subscription_check,
)
from services.shops.shops import Shop, get_shop_by_id

if TYPE_CHECKING:
    from services.providers.shopify_admin import ShopifyAdmin

LOST = "webhook_subscription_lost"
WRONG = "webhook_subscription_wrong"
ACTOR = "job subscription-watchdog"
ACTION = "subscription_watch"


@dataclass(slots=True)
class SubscriptionCheckResult:
    """The result of a check. ``refused`` has Shopify's reason by refused topic."""

    diff: SubscriptionDiff
    created: dict[str, Subscription] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    since: datetime | None = None
    backfill: BackfillStats = field(default_factory=BackfillStats)

    def stats(self) -> dict[str, int | str]:
        return {
            "good": len(self.diff.good),
            "missing": len(self.diff.missing),
            "lost": len(self.diff.to_import),
            "wrong": len(self.diff.wrong),
            "made": len(self.created),
            "refused": len(self.refused),
            "imported": self.backfill.recorded.total(),
        }


def check_subscriptions(run: JobRun, clock: Callable[[], datetime] = utc_now) -> JobResult:
    """Check the subscriptions of the run's shop, create missing ones, import missed events.

    Without ``PUBLIC_URL`` nothing is created.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    now = clock()
    with transaction() as tx:
        shop = get_shop_by_id(tx, run.shop_id)
    try:
        admin = open_admin(shop.id)
    except Misconfigured as fault:
        if fault.code not in NO_ACCESS:
            raise
        return JobResult(result="not_connected")
    result = _check_shop(shop, admin, now, run.request_id)
    record = partial(_record_result, shop.id, result, run.zone, now, run.request_id)
    has_findings = result.diff.to_import or result.diff.wrong or result.diff.lost
    return JobResult(stats=result.stats(), result="mended" if has_findings else "well", record=record)


def _check_shop(shop: Shop, admin: "ShopifyAdmin", now: datetime, request_id: str) -> SubscriptionCheckResult:
    listed = fetch_subscriptions(admin)
    with transaction() as tx:
        diff = find_subscription_diff(tx, shop, listed)
        if lost := mark_subscriptions_lost(tx, shop.id, [entry.topic for entry in diff.lost], now):
            append_all(tx, [AuditEntry(shop.id, ACTOR, ACTION, request_id, lost)], now)
        topics = [entry.topic for entry in diff.to_import]
        earliest = min((entry.seen_at for entry in diff.to_import), default=now) - MAX_FAILURE_TIME
        last_received = find_last_received(tx, shop.id, topics, earliest)
    result = SubscriptionCheckResult(diff, since=find_outage_start(diff.to_import, last_received))
    if get_settings().public_url:
        result.created, result.refused = create_missing(admin, diff.missing, webhook_address(shop))
    if result.since is not None:
        result.backfill = backfill_shopify(shop.id, now, request_id, since=result.since)
    return result


def fetch_subscriptions(admin: "ShopifyAdmin") -> list[Subscription]:
    """Return the webhook subscriptions that this app created in the shop.

    Shopify does not list those of the app's own configuration file.
    """
    pages = Pager(admin).pages(LIST_SUBSCRIPTIONS, {}, "webhookSubscriptions")
    return [
        Subscription(
            ENUM_TOPICS.get(node["topic"], node["topic"]), node["id"], node["uri"], node["format"] == "JSON"
        )
        for page in pages
        for node in page
    ]


def find_subscription_diff(tx: Connection, shop: Shop, listed: Sequence[Subscription]) -> SubscriptionDiff:
    return compare_subscriptions(listed, list_stored_subscriptions(tx, shop.id), webhook_address(shop))


def webhook_address(shop: Shop) -> str:
    """Return the address of the shop's webhooks; only its path if ``PUBLIC_URL`` is empty."""
    return f"{get_settings().public_url}/webhooks/shopify/{shop.slug}"


def create_missing(
    admin: "ShopifyAdmin", topics: Sequence[str], uri: str
) -> tuple[dict[str, Subscription], dict[str, str]]:
    """Create subscriptions for ``topics``; return those created, and the reasons of the refused ones.

    It can be repeated: Shopify refuses a second subscription of the same topic and address.
    """
    created: dict[str, Subscription] = {}
    refused: dict[str, str] = {}
    for topic in topics:
        variables = {"topic": topic_to_enum(topic), "wanted": {"uri": uri, "format": "JSON"}}
        try:
            with optional_calls():
                answer = admin.execute(CREATE_SUBSCRIPTION, variables, changes=True)
        except (Refused, Misconfigured) as fault:
            if fault.code == "shopify.token_refused":
                raise
            refused[topic] = str(fault)
            continue
        payload = find_object(answer, "webhookSubscriptionCreate")
        if errors := payload.get("userErrors"):
            refused[topic] = "; ".join(str(error.get("message", "")) for error in errors)
            continue
        node = find_object(payload, "webhookSubscription")
        created[topic] = Subscription(topic, str(node.get("id") or ""), uri, is_json=True)
    return created, refused


def delete_subscriptions(admin: "ShopifyAdmin", shop: Shop) -> int:
    """Delete the subscriptions at Shopify that have the shop's address; return how many."""
    path = f"/webhooks/shopify/{shop.slug}"
    own = [one for one in fetch_subscriptions(admin) if urlsplit(one.uri).path == path]
    for one in own:
        admin.execute(DELETE_SUBSCRIPTION, {"id": one.gid}, changes=True)
    return len(own)


def create_and_record(
    admin: "ShopifyAdmin", shop: Shop, diff: SubscriptionDiff, *, by: str, request_id: str
) -> tuple[dict[str, Subscription], dict[str, str]]:
    """Create the missing subscriptions for a person, and record the good ones; see ``create_missing``."""
    created, refused = create_missing(admin, diff.missing, webhook_address(shop))
    # Lost ones stay lost until the watchdog has imported their missed events.
    lost = {entry.topic for entry in (*diff.lost, *diff.returned)}
    good = {topic: entry for topic, entry in {**diff.good, **created}.items() if topic not in lost}
    now = utc_now()
    with transaction() as tx:
        if mutations := record_subscription_check(tx, shop.id, good, (), now):
            append_all(tx, [AuditEntry(shop.id, by, ACTION, request_id, mutations)], now)
    return created, refused


def _record_result(
    shop_id: int,
    result: SubscriptionCheckResult,
    zone: ZoneInfo,
    now: datetime,
    request_id: str,
    tx: Connection,
) -> FollowUp:
    diff = result.diff
    imported = [entry.topic for entry in diff.to_import]
    mutations = record_subscription_check(tx, shop_id, {**diff.good, **result.created}, imported, now)
    record_incidents(
        tx, [*_plan_lost(shop_id, result, zone, now), *_plan_wrong(shop_id, diff, zone, now)], now
    )
    if not (diff.to_import or diff.lost):
        resolve_incident(tx, shop_id, LOST, None, now, "All wanted subscriptions exist again.")
    if not diff.wrong:
        resolve_incident(tx, shop_id, WRONG, None, now, "No wanted topic has another address now.")
    return FollowUp(audit=[AuditEntry(shop_id, ACTOR, ACTION, request_id, mutations)] if mutations else ())


def _plan_lost(
    shop_id: int, result: SubscriptionCheckResult, zone: ZoneInfo, now: datetime
) -> list[Incident]:
    """Return the incident of lost subscriptions. Its period is the day of the first loss: no duplicates."""
    lost = {entry.topic: entry for entry in (*result.diff.lost, *result.diff.returned)}
    if not lost:
        return []
    since = format_time(result.since) if result.since else "an earlier check"
    still_missing = sorted(lost.keys() & set(result.diff.missing) - result.created.keys())
    state = (
        f"{', '.join(still_missing)} could not be created: set PUBLIC_URL, or create them in Shopify"
        if still_missing
        else "all exist again"
    )
    summary = (
        f"Shopify deleted {len(lost)} of our webhook subscriptions ({', '.join(sorted(lost))}); webhooks may "
        f"be missing since {since}, {result.backfill.recorded.total()} were imported; {state}."
    )
    detail = {
        "topics": sorted(lost),
        "since": result.since,
        "imported": dict(result.backfill.recorded),
        "not_made": {topic: result.refused.get(topic, "PUBLIC_URL is empty") for topic in still_missing},
    }
    lost_at = min(entry.lost_at or now for entry in lost.values())
    return [Incident(shop_id, LOST, _format_day(lost_at, zone), "P2", summary, detail)]


def _plan_wrong(shop_id: int, diff: SubscriptionDiff, zone: ZoneInfo, now: datetime) -> list[Incident]:
    if not diff.wrong:
        return []
    entries = "; ".join(
        f"{entry.topic} as {'JSON' if entry.is_json else 'XML'} to {entry.uri}" for entry in diff.wrong
    )
    summary = (
        f"{format_count(len(diff.wrong), 'webhook subscription')} with another address, or not in JSON: "
        f"{entries}. Delete what is not yours."
    )
    detail = {"subscriptions": [entry.gid for entry in diff.wrong]}
    return [Incident(shop_id, WRONG, _format_day(now, zone), "P3", summary, detail)]


def _format_day(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d}"
