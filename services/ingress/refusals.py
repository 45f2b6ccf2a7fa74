"""Incidents for signed webhooks that are refused: a provider stops sending after repeated refusals."""

from collections.abc import Collection
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents
from services.core.pg_arrays import text_array
from services.ledger.refusals import Refusals, record_refusals
from services.providers.provider import Provider
from services.providers.registry import find_provider

_FIND_SHOPS = "select slug, id, timezone from shops where slug = any(%(slug)s::text[])"


def report_refusals(tx: Connection, refusals: Collection[Refusals], now: datetime) -> None:
    """Record ``refusals`` for the backfill, and open a P2 per shop, outcome and day in the shop's zone."""
    slugs = text_array(sorted({one.shop for one in refusals}))
    shops = {slug: (i, zone) for slug, i, zone in tx.exec_driver_sql(_FIND_SHOPS, {"slug": slugs})}
    record_refusals(tx, refusals)
    incidents = {}
    for one in refusals:
        if one.shop in shops:
            shop_id, zone = shops[one.shop]
            incident = _describe(one, shop_id, f"{one.first_at.astimezone(ZoneInfo(zone)):%Y-%m-%d}")
            incidents[shop_id, incident.rule, incident.period] = incident
    record_incidents(tx, list(incidents.values()), now)


def _describe(refused: Refusals, shop_id: int, day: str) -> Incident:
    summary = (
        f"Signed {refused.provider} webhooks of {refused.shop} are refused as {refused.outcome}: "
        f"{refused.detail}." + _describe_drop(find_provider(refused.provider))
    )
    detail = {"provider": refused.provider, "first_at": refused.first_at}
    return Incident(shop_id, f"webhook_{refused.outcome}", day, "P2", summary, detail)


def _describe_drop(provider: Provider | None) -> str:
    if provider is None or not provider.refusals_until_dropped:
        return ""
    name, limit = provider.name.capitalize(), provider.refusals_until_dropped
    return (
        f" {name} drops a subscription after {limit} refusals in a row; gap-healing reads what was refused."
    )
