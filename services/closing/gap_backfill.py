"""Job ``gap-healing``: what Shopify and Stripe have and no webhook told is brought in, from marks on."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple, Protocol

from sqlalchemy import Connection

from services.audit.chain import Entry, Mutation
from services.core.clock import utc_now
from services.core.errors import Misconfigured, RetryLater, WorkError
from services.jobs.handler import JobResult, Run
from services.ledger.work import FollowUp
from services.payments.backfill import backfill_stripe
from services.shopify.backfill.run import backfill_shopify

JOB = "gap-healing"
NO_CREDENTIALS = frozenset({"shopify.no_domain", "shopify.no_token", "stripe.no_key"})
"""Nobody gave us a way to ask: such a provider is left out and counted, hour by hour."""


class BackfillProvider(Protocol):
    """Brings in what a provider has and we lack; returns how much, by topic, and how many were seen."""

    def __call__(
        self, shop_id: int, now: datetime, request_id: str, *, since: datetime | None, is_dry: bool
    ) -> Mapping[str, int]:
        """Raise a ``WorkError`` where the provider does not let itself be read; empty: not used here."""
        ...


class BackfillResult(NamedTuple):
    """What healing from a provider came to: ``counts``, or ``fault``, or neither where it is not used."""

    provider: str
    counts: Mapping[str, int]
    fault: WorkError | None = None

    @property
    def topics(self) -> dict[str, int]:
        """How many entered of each topic."""
        return {name: n for name, n in sorted(self.counts.items()) if "/" in name or "." in name}

    @property
    def state(self) -> str:
        """What became of it, in a word."""
        if self.fault is not None:
            return self.fault.code
        return "healed" if self.counts else "not_connected"


def _backfill_from_shopify(
    shop_id: int, now: datetime, request_id: str, *, since: datetime | None, is_dry: bool
) -> Mapping[str, int]:
    """Backfill the shop from Shopify; see ``backfill_shopify``."""
    healed = backfill_shopify(shop_id, now, request_id, since=since, is_dry=is_dry)
    return {} if healed.is_skipped else {"seen": healed.seen, **healed.entered}


PROVIDERS: Mapping[str, BackfillProvider] = {"shopify": _backfill_from_shopify, "stripe": backfill_stripe}


class GapBackfill:
    """Heals shops: the work of the job. ``providers`` are asked in turn."""

    def __init__(
        self, providers: Mapping[str, BackfillProvider] = PROVIDERS, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._providers, self._clock = providers, clock

    def __call__(self, run: Run) -> JobResult:
        """Everything that a provider lists and we lacked is in, each provider for itself.

        One that cannot be asked keeps none of the others from being healed; then the run fails naming it:
        to be tried again if that may help, for a person where a credential is refused.
        """
        assert run.shop_id is not None  # noqa: S101 - the job is per shop
        parts = backfill_providers(run.shop_id, self._clock(), run.request_id, providers=self._providers)
        if fault := find_fault(parts):
            raise fault
        entered = sum(sum(part.topics.values()) for part in parts)
        stats: dict[str, int | str] = {"entered": entered}
        for part in parts:
            stats |= {part.provider: part.state, f"{part.provider}_seen": part.counts.get("seen", 0)}
            stats |= part.topics
        record = partial(_record, run, parts, entered)
        return JobResult(stats=stats, result="backfilled" if entered else "complete", record=record)


def backfill_providers(
    shop_id: int,
    now: datetime,
    request_id: str,
    *,
    since: datetime | None = None,
    is_dry: bool = False,
    providers: Mapping[str, BackfillProvider] = PROVIDERS,
) -> list[BackfillResult]:
    """Heal the shop from each of ``providers``; what keeps one of them from it is in its ``Part``."""
    parts = []
    for name, heal in providers.items():
        try:
            parts.append(
                BackfillResult(name, dict(heal(shop_id, now, request_id, since=since, is_dry=is_dry)))
            )
        except WorkError as fault:
            is_left_out = fault.code in NO_CREDENTIALS
            parts.append(BackfillResult(name, {}, None if is_left_out else fault))
    return parts


def find_fault(parts: Sequence[BackfillResult]) -> WorkError | None:
    """Return what the run fails with: first one that may pass by itself, as it is worth another try."""
    faults = [part.fault for part in parts if part.fault is not None]
    passing = [fault for fault in faults if isinstance(fault, RetryLater)]
    lasting = [fault for fault in faults if isinstance(fault, Misconfigured)]
    return next(iter([*passing, *lasting, *faults]), None)


def _record(run: Run, parts: Sequence[BackfillResult], entered: int, tx: Connection) -> FollowUp:
    del tx
    if not entered:
        return FollowUp()
    after = {topic: count for part in parts for topic, count in part.topics.items()}
    summary = f"{entered} events that no webhook told were brought in"
    mutation = Mutation("inbound_events", f"{entered} rows", summary, None, after)
    return FollowUp(audit=[Entry(run.shop_id, f"job {JOB}", "gap_heal", run.request_id, [mutation])])
