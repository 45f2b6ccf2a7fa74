"""Job ``subscription-watchdog``: Shopify still sends what it should, and what it dropped is made anew.

A subscription that Shopify deleted goes unnoticed otherwise: no error, only silence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.audit.append import append_audit
from services.audit.chain import Entry
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused
from services.core.settings import get_settings
from services.jobs.handler import JobResult, Run
from services.ledger.dispatch import send_messages
from services.ledger.work import FollowUp
from services.providers.calls import optional_calls
from services.providers.delivery import find_dict
from services.providers.shopify_pull_documents import CREATE_SUBSCRIPTION, LIST_SUBSCRIPTIONS
from services.shopify.admin import open_admin
from services.shopify.backfill.pager import AdminApi, Pager
from services.shopify.backfill.run import NO_ACCESS, BackfillStats, NotifyWorkers, backfill_shopify
from services.shopify.subscriptions.plan import (
    BEFORE_DELETION,
    ENUM_TOPICS,
    Subscription,
    Watch,
    plan_outage,
    plan_watch,
    topic_to_enum,
)
from services.shopify.subscriptions.store import find_arrived, find_kept, record_lost, record_watch
from services.shops.shops import Shop, get_shop_by_id

LOST = "webhook_subscription_lost"
WRONG = "webhook_subscription_wrong"
BY = "job subscription-watchdog"
ACTION = "subscription_watch"


@dataclass(slots=True)
class Watched:
    """What a watch came to. ``refused`` says why a topic could not be subscribed to."""

    watch: Watch
    made: dict[str, Subscription] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    since: datetime | None = None
    healed: BackfillStats = field(default_factory=BackfillStats)

    def stats(self) -> dict[str, int | str]:
        """Return the figures as a run of a job shows them."""
        return {
            "good": len(self.watch.good),
            "missing": len(self.watch.missing),
            "lost": len(self.watch.to_import),
            "wrong": len(self.watch.wrong),
            "made": len(self.made),
            "refused": len(self.refused),
            "imported": self.healed.entered.total(),
        }


class SubscriptionWatch:
    """Watches a shop's subscriptions: the work of the job. ``notify`` is told of work that was imported."""

    def __init__(
        self,
        open_shop: Callable[[int], AdminApi] = open_admin,
        clock: Callable[[], datetime] = utc_now,
        notify: NotifyWorkers = send_messages,
    ) -> None:
        self._open_shop, self._clock, self._notify = open_shop, clock, notify

    def __call__(self, run: Run) -> JobResult:
        """Every wanted subscription is there, as far as ``PUBLIC_URL`` says where; see ``watch_shop``."""
        assert run.shop_id is not None  # noqa: S101 - the job is per shop
        now = self._clock()
        with transaction() as tx:
            shop = get_shop_by_id(tx, run.shop_id)
        try:
            admin = self._open_shop(shop.id)
        except Misconfigured as fault:
            if fault.code not in NO_ACCESS:
                raise
            return JobResult(result="not_connected")
        watched = watch_shop(shop, admin, now, run.request_id, open_shop=self._open_shop, notify=self._notify)
        record = partial(_record, shop.id, watched, run.zone, now, run.request_id)
        is_well = not (watched.watch.to_import or watched.watch.wrong or watched.watch.lost)
        return JobResult(stats=watched.stats(), result="well" if is_well else "mended", record=record)


def list_subscriptions(admin: AdminApi) -> list[Subscription]:
    """Return the webhook subscriptions that this app made in the shop.

    Those of the app's own configuration file are not among them: Shopify keeps and lists them apart.
    """
    pages = Pager(admin).pages(LIST_SUBSCRIPTIONS, {}, "webhookSubscriptions")
    return [
        Subscription(
            ENUM_TOPICS.get(node["topic"], node["topic"]), node["id"], node["uri"], node["format"] == "JSON"
        )
        for page in pages
        for node in page.nodes
    ]


def look(tx: Connection, shop: Shop, listed: Sequence[Subscription]) -> Watch:
    """Return what ``listed`` means for the shop."""
    return plan_watch(listed, find_kept(tx, shop.id), our_address(shop))


def our_address(shop: Shop) -> str:
    """Return where the shop's webhooks come in; only the path where ``PUBLIC_URL`` is empty."""
    return f"{get_settings().public_url}/webhooks/shopify/{shop.slug}"


def watch_shop(
    shop: Shop,
    admin: AdminApi,
    now: datetime,
    request_id: str,
    *,
    open_shop: Callable[[int], AdminApi] = open_admin,
    notify: NotifyWorkers = send_messages,
) -> Watched:
    """What is missing has been made, and what the lost ones kept from us is in; nothing of it is noted yet.

    Without ``PUBLIC_URL`` nothing is made. A topic that the app may not have is left out and named.
    """
    listed = list_subscriptions(admin)
    with transaction() as tx:
        watch = look(tx, shop, listed)
        lost = record_lost(tx, shop.id, [kept.topic for kept in watch.lost], now)
        if lost:
            append_audit(tx, shop_id=shop.id, staff_label=BY, action=ACTION, request_id=request_id, now=now,
                         mutations=lost)  # fmt: skip
        topics = [kept.topic for kept in watch.to_import]
        earliest = min((kept.seen_at for kept in watch.to_import), default=now) - BEFORE_DELETION
        arrived = find_arrived(tx, shop.id, topics, earliest)
    watched = Watched(watch, since=plan_outage(watch.to_import, arrived))
    if get_settings().public_url:
        watched.made, watched.refused = make_missing(admin, watch.missing, our_address(shop))
    if watched.since is not None:
        watched.healed = backfill_shopify(
            shop.id, now, request_id, since=watched.since, open_shop=open_shop, notify=notify
        )
    return watched


def make_missing(
    admin: AdminApi, topics: Sequence[str], uri: str
) -> tuple[dict[str, Subscription], dict[str, str]]:
    """Return the subscriptions made for ``topics``, and why the others were not.

    Made twice is no harm: Shopify declines a second one of the same topic and address.
    """
    made: dict[str, Subscription] = {}
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
        payload = find_dict(answer, "webhookSubscriptionCreate")
        if errors := payload.get("userErrors"):
            refused[topic] = "; ".join(str(error.get("message", "")) for error in errors)
            continue
        node = find_dict(payload, "webhookSubscription")
        made[topic] = Subscription(topic, str(node.get("id") or ""), uri, is_json=True)
    return made, refused


def _record(
    shop_id: int, watched: Watched, zone: ZoneInfo, now: datetime, request_id: str, tx: Connection
) -> FollowUp:
    watch = watched.watch
    good = {**watch.good, **watched.made}
    mutations = record_watch(tx, shop_id, good, [kept.topic for kept in watch.to_import], now)
    record_incidents(
        tx, [*_say_lost(shop_id, watched, zone, now), *_say_wrong(shop_id, watch, zone, now)], now
    )
    if not (watch.to_import or watch.lost):
        resolve_incident(tx, shop_id, LOST, None, now, "All wanted subscriptions are there again.")
    if not watch.wrong:
        resolve_incident(tx, shop_id, WRONG, None, now, "No wanted topic goes anywhere else any more.")
    entry = Entry(shop_id, BY, ACTION, request_id, mutations)
    return FollowUp(audit=[entry] if mutations else ())


def _say_lost(shop_id: int, watched: Watched, zone: ZoneInfo, now: datetime) -> list[Incident]:
    """Return the incident of what is gone. Its day is the first on which it was: it is one, however long."""
    gone = {kept.topic: kept for kept in (*watched.watch.lost, *watched.watch.back)}
    if not gone:
        return []
    since = f"{watched.since:%Y-%m-%d %H:%M} UTC" if watched.since else "an earlier look"
    open_topics = sorted(
        topic for topic in gone if topic in watched.watch.missing and topic not in watched.made
    )
    what = (
        f"{', '.join(open_topics)} could not be made again: set PUBLIC_URL, or make them in Shopify"
        if open_topics
        else "they are there again"
    )
    summary = (
        f"Shopify deleted {len(gone)} of our webhook subscriptions ({', '.join(sorted(gone))}); webhooks may "
        f"be missing since {since}, {watched.healed.entered.total()} were imported; {what}."
    )
    detail = {
        "topics": sorted(gone),
        "since": watched.since,
        "imported": dict(watched.healed.entered),
        "not_made": {topic: watched.refused.get(topic, "PUBLIC_URL is empty") for topic in open_topics},
    }
    lost_at = min(kept.lost_at or now for kept in gone.values())
    return [Incident(shop_id, LOST, _day(lost_at, zone), "P2", summary, detail)]


def _say_wrong(shop_id: int, watch: Watch, zone: ZoneInfo, now: datetime) -> list[Incident]:
    if not watch.wrong:
        return []
    told = "; ".join(
        f"{entry.topic} as {'JSON' if entry.is_json else 'XML'} to {entry.uri}" for entry in watch.wrong
    )
    summary = f"{len(watch.wrong)} webhook subscriptions go elsewhere, or are not JSON: {told}. Delete them."
    detail = {"subscriptions": [entry.gid for entry in watch.wrong]}
    return [Incident(shop_id, WRONG, _day(now, zone), "P3", summary, detail)]


def _day(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d}"
