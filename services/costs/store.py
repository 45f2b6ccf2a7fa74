"""Writes metered costs, and reads the costs of each shop in a month."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row

from services.core.errors import InputInvalid, describe_unknown
from services.core.money import CURRENCIES, format_minor, parse_money, to_micros
from services.core.pg_arrays import arrays, int_array
from services.costs.month import LIMITS, MonthCosts
from services.ledger.topics import COSTS
from services.shops.shops import Shop

_FIND_ZONES = "select id, timezone from shops where id = any(%(shop_id)s::int[])"

# Sorted, so that two transactions with the same costs do not deadlock.
_GIVEN = """unnest(%(shop_id)s::int[], %(kind)s::text[], %(day)s::date[], %(source)s::text[],
              %(reference)s::text[], %(amount_micros)s::bigint[], %(currency)s::text[])
       as v(shop_id, kind, day, source, reference, amount_micros, currency)"""
_ADD = f"""
insert into cost_references (shop_id, kind, day, source, reference, amount_micros, currency, recorded_at)
select v.*, %(now)s from {_GIVEN} order by 1, 2, 3, 4, 5
on conflict do nothing returning shop_id, kind, day, source, currency, amount_micros
"""  # noqa: S608 - constants only

# A statement of its own: it reads what another transaction committed while the first one waited for it.
_REPLACE = f"""
with old as (
  select r.*, v.amount_micros as new_micros, v.currency as new_currency
    from {_GIVEN} join cost_references r using (shop_id, kind, day, source, reference)
   where (r.amount_micros, r.currency) <> (v.amount_micros, v.currency)
   order by 1, 2, 3, 4, 5 for update of r
), replaced as (
  update cost_references r
     set amount_micros = old.new_micros, currency = old.new_currency, recorded_at = %(now)s from old
   where (r.shop_id, r.kind, r.day, r.source, r.reference)
         = (old.shop_id, old.kind, old.day, old.source, old.reference)
)
select shop_id, kind, day, source, currency, -amount_micros as amount_micros from old
 union all select shop_id, kind, day, source, new_currency, new_micros from old
"""  # noqa: S608 - constants only

_ADD_TO_DAYS = """
insert into metered_costs as m (shop_id, kind, day, source, currency, amount_micros)
select shop_id, kind, day, source, currency, sum(amount_micros)
  from unnest(%(shop_id)s::int[], %(kind)s::text[], %(day)s::date[], %(source)s::text[], %(currency)s::text[],
              %(amount_micros)s::bigint[]) as v(shop_id, kind, day, source, currency, amount_micros)
 group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
on conflict (shop_id, kind, day, source, currency) do update
   set amount_micros = m.amount_micros + excluded.amount_micros
"""

_FIND_SHOPS = """
select s.id, s.slug, s.timezone, c.ai_cap, c.sms_budget, c.exchange_rates
  from shops s join shop_config c on c.shop_id = s.id
 where not c.settings ? 'removed_at' and (%(shop_id)s::int is null or s.id = %(shop_id)s)
 order by s.slug
"""

_SUM = """
select m.shop_id, k.kind, k.currency, k.micros
  from unnest(%(shop_id)s::int[], %(begins)s::date[], %(ends)s::date[]) as m(shop_id, begins, ends)
 cross join lateral (
   select kind, currency, sum(amount_micros)::bigint as micros from metered_costs
    where shop_id = m.shop_id and kind = any(%(kinds)s::text[]) and day >= m.begins and day < m.ends
    group by kind, currency having sum(amount_micros) <> 0) k
"""

_FIND_DAYS = """
select day, kind, source, currency, amount_micros from metered_costs
 where shop_id = %(shop_id)s and day >= %(begins)s and day < %(ends)s and amount_micros <> 0
 order by 1, 2, 3, 4
"""


class Cost(NamedTuple):
    """What one call, or one day of calls, cost.

    ``source`` bills it (``twilio``, ``openai``); ``reference`` tells its costs of a day apart, such as the id
    of the work and the number of its try. ``amount`` is a decimal string in units of ``currency``. ``day``
    None: today in the shop's zone.
    """

    shop_id: int
    kind: str
    source: str
    reference: str
    amount: str
    currency: str
    day: date | None = None


def record_cost(tx: Connection, *costs: Cost, now: datetime) -> int:
    """Add ``costs`` to the totals of their days; return how many totals changed.

    A cost with the shop, kind, day, source and reference of a recorded one replaces it, so that a retry
    counts once; references are known for ``RETENTION_STATS_DAYS``, 36 days or more. A retry that calls the
    model again costs again: give it another reference. Raises
    ``InputInvalid`` for an unknown shop, kind or currency and for an empty source or reference, and
    ``MoneyInvalid`` for an amount that is no decimal.
    """
    if not costs:
        return 0
    today = _find_days(tx, {one.shop_id for one in costs}, now)
    rows: dict[tuple[int, str, date, str, str], tuple[int, str]] = {}
    for one in costs:
        if one.kind not in COSTS:
            raise InputInvalid(f"kind={describe_unknown(one.kind, COSTS)}")
        for name in ("source", "reference"):
            if not getattr(one, name).strip():
                raise InputInvalid(f"{name} is empty: it identifies a cost, so that a repeat counts once")
        if one.currency not in CURRENCIES:
            raise InputInvalid(f"currency={one.currency!r} should be three capital letters such as CAD")
        if one.shop_id not in today:
            raise InputInvalid(f"shop_id={one.shop_id} should be the id of a shop")
        key = (one.shop_id, one.kind, one.day or today[one.shop_id], one.source, one.reference)
        rows[key] = (to_micros(one.amount), one.currency)
    names = "shop_id kind day source reference amount_micros currency"
    values = {**arrays(names, [(*key, *value) for key, value in rows.items()]), "now": now}
    changes = [tuple(row) for part in (_ADD, _REPLACE) for row in tx.exec_driver_sql(part, values)]
    names = "shop_id kind day source currency amount_micros"
    return tx.exec_driver_sql(_ADD_TO_DAYS, arrays(names, changes)).rowcount if changes else 0


def list_month_costs(
    tx: Connection,
    now: datetime,
    *,
    shop_id: int | None = None,
    month: date | None = None,
    kinds: Sequence[str] = COSTS,
) -> Sequence[MonthCosts]:
    """Return each shop's costs of those ``kinds`` that it has costs or a limit for, by shop and kind.

    ``month`` is the first day of a month; None: the month of each shop's zone at ``now``.
    """
    shops = tx.exec_driver_sql(_FIND_SHOPS, {"shop_id": shop_id}).all()
    zones = {shop.timezone for shop in shops}
    months = {zone: month or _find_day(zone, now).replace(day=1) for zone in zones}
    names = {zone: f"{begins:%Y-%m}" for zone, begins in months.items()}
    ends = {zone: _next_month(begins) for zone, begins in months.items()}
    bounds = [(shop.id, months[shop.timezone], ends[shop.timezone]) for shop in shops]
    values = {**arrays("shop_id begins ends", bounds), "kinds": list(kinds)}
    sums: dict[tuple[int, str], dict[str, int]] = {}
    for key, kind, currency, micros in tx.exec_driver_sql(_SUM, values).all():
        sums.setdefault((key, kind), {})[currency] = micros
    return [
        MonthCosts(
            shop_id=shop.id,
            shop=shop.slug,
            timezone=shop.timezone,
            kind=kind,
            month=names[shop.timezone],
            micros=sums.get((shop.id, kind), {}),
            limit=_format_limit(limit),
            rates=shop.exchange_rates,
        )
        for shop in shops
        for kind, field in LIMITS.items()
        if kind in kinds and ((limit := getattr(shop, field)) or (shop.id, kind) in sums)
    ]


@lru_cache(maxsize=1024)
def _format_limit(text: str) -> str:
    return format_minor(*parse_money(text)) if text else ""


def list_day_costs(
    tx: Connection, shop: Shop, now: datetime, month: date | None = None
) -> Sequence[Row[Any]]:
    """Return ``day, kind, source, currency, amount_micros`` of a month, as in ``list_month_costs``."""
    begins = month or _find_day(shop.timezone, now).replace(day=1)
    values = {"shop_id": shop.id, "begins": begins, "ends": _next_month(begins)}
    return tx.exec_driver_sql(_FIND_DAYS, values).all()


def _find_days(tx: Connection, shop_ids: Collection[int], now: datetime) -> Mapping[int, date]:
    """Return today in the zone of each shop."""
    rows = tx.exec_driver_sql(_FIND_ZONES, {"shop_id": int_array(sorted(shop_ids))})
    return {row.id: _find_day(row.timezone, now) for row in rows}


def _find_day(timezone: str, now: datetime) -> date:
    return now.astimezone(ZoneInfo(timezone)).date()


def _next_month(begins: date) -> date:
    return date(begins.year + begins.month // 12, begins.month % 12 + 1, 1)
