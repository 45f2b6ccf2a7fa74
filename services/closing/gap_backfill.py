"""Job ``gap-healing``: records changes at Shopify and Stripe since the cursors that had no webhook."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import AuditEntry, Mutation
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.errors import Misconfigured, RetryLater, WorkError
from services.jobs.handler import JobResult, JobRun
from services.ledger.work import FollowUp
from services.payments.backfill import backfill_stripe
from services.shopify.backfill.run import backfill_shopify

JOB = "gap-healing"
NO_CREDENTIALS = frozenset({"shopify.no_domain", "shopify.no_token", "stripe.no_key"})
"""Errors of a shop without credentials for a provider, which is then left out."""

BackfillProvider = Callable[..., Mapping[str, int]]
"""Like ``backfill_stripe``: returns ``seen`` and the counts by topic; empty without the provider."""


class BackfillResult(NamedTuple):
    """The result of one provider: ``counts``, or ``fault``, or neither if the shop does not use it."""

    provider: str
    counts: Mapping[str, int]
    fault: WorkError | None = None

    @property
    def topics(self) -> dict[str, int]:
        """The number of recorded events by topic."""
        return {name: n for name, n in sorted(self.counts.items()) if "/" in name or "." in name}

    @property
    def state(self) -> str:
        if self.fault is not None:
            return self.fault.code
        return "backfilled" if self.counts else "not_connected"


def _backfill_from_shopify(
    shop_id: int, now: datetime, request_id: str, *, since: datetime | None, is_dry: bool
) -> Mapping[str, int]:
    stats = backfill_shopify(shop_id, now, request_id, since=since, is_dry=is_dry)
    return {} if stats.is_skipped else {"seen": stats.seen, **stats.recorded}


PROVIDERS: Mapping[str, BackfillProvider] = {"shopify": _backfill_from_shopify, "stripe": backfill_stripe}


def backfill_gaps(
    run: JobRun,
    *,
    providers: Mapping[str, BackfillProvider] = PROVIDERS,
    clock: Callable[[], datetime] = utc_now,
) -> JobResult:
    """Backfill from each of ``providers``; raise the error of one after the others are done."""
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    results = backfill_providers(run.shop_id, clock(), run.request_id, providers=providers)
    if fault := find_fault(results):
        raise fault
    topics = _join_topics(results)
    entered = sum(topics.values())
    stats: dict[str, int | str] = {"entered": entered, **topics}
    for result in results:
        stats |= {result.provider: result.state, f"{result.provider}_seen": result.counts.get("seen", 0)}
    if (mutation := describe_backfill(results)) is None:
        return JobResult(stats=stats, result="complete")

    def record(tx: Connection) -> FollowUp:
        del tx
        return FollowUp(audit=[AuditEntry(run.shop_id, f"job {JOB}", "gap_heal", run.request_id, [mutation])])

    return JobResult(stats=stats, result="backfilled", record=record)


def describe_backfill(results: Sequence[BackfillResult], reason: str = "") -> Mutation | None:
    """Return what the audit contains of ``results``; None if no event was recorded."""
    topics = _join_topics(results)
    if not (entered := sum(topics.values())):
        return None
    summary = f"recorded {format_count(entered, 'event')} without a webhook" + (
        f": {reason}" if reason else ""
    )
    after = topics | ({"reason": reason} if reason else {})
    return Mutation("inbound_events", format_count(entered, "row"), summary, None, after)


def _join_topics(results: Sequence[BackfillResult]) -> dict[str, Any]:
    return {topic: count for result in results for topic, count in result.topics.items()}


def backfill_providers(
    shop_id: int,
    now: datetime,
    request_id: str,
    *,
    since: datetime | None = None,
    is_dry: bool = False,
    providers: Mapping[str, BackfillProvider] = PROVIDERS,
) -> list[BackfillResult]:
    """Backfill the shop from each of ``providers``; the error of a call is in its result."""
    results = []
    for name, backfill in providers.items():
        try:
            counts = dict(backfill(shop_id, now, request_id, since=since, is_dry=is_dry))
            results.append(BackfillResult(name, counts))
        except WorkError as fault:
            is_left_out = fault.code in NO_CREDENTIALS
            results.append(BackfillResult(name, {}, None if is_left_out else fault))
    return results


def find_fault(results: list[BackfillResult]) -> WorkError | None:
    """Return the error of the run: one that a retry may solve, else one of a credential, else any."""
    faults = [result.fault for result in results if result.fault is not None]
    for kind in (RetryLater, Misconfigured, WorkError):
        for fault in faults:
            if isinstance(fault, kind):
                return fault
    return None
