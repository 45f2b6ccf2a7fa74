"""Reads the people of a segment, with what decides whether they get a step."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from services.core.pg_arrays import text_array
from services.jobs.store import is_job_off
from services.mail.suppressions import find_suppressed
from services.outreach.plan import PersonPlan, plan_person
from services.outreach.series import Series, list_series_before
from services.shops.shops import Shop

SEGMENT = 200
"""People of one work item: all its mails are composed and committed together."""
_RECENT = timedelta(days=4)
"""Sends of so many days count for the cap; older reminders are of other days."""

_SEGMENTS = """
select shop_id, min(id) as first, max(id) as last, count(*)::int as people
  from (select p.shop_id, p.id, (row_number() over (partition by p.shop_id order by p.id) - 1) / {size} as n
          from outreach_people p where p.email <> '' and {audience}) found
 group by shop_id, n order by shop_id, n
"""
# In the order of their ids, as an import and a withdrawal lock them.
_LOCK = """
select p.id from outreach_people p
 where p.shop_id = %(shop_id)s and p.id between %(first)s and %(last)s and p.email <> '' and {audience}
 order by p.id for update
"""
# A statement of its own: it sees what another transaction committed before it freed the rows.
_READ = """
select p.id, p.external_id, p.email, p.name, p.timezone, p.link_key, p.signed_up_at, p.last_active_at,
       c.given, c.expires, coalesce(c.has_withdrawn, false) as has_withdrawn,
       coalesce(s.steps, '{{}}') as steps, coalesce(s.days, '{{}}') as days,
       coalesce(s.before, '{{}}') as before
  from outreach_people p
  left join lateral (
    select array_agg(given_at) filter (where withdrawn_at is null) as given,
           array_agg(expires_at) filter (where withdrawn_at is null) as expires,
           bool_or(withdrawn_at is not null) as has_withdrawn
      from outreach_consents where person_id = p.id) c on true
  left join lateral (
    select array_agg(step) filter (where series = %(series)s) as steps,
           array_agg(local_day) filter (where status <> 'skipped' and created_at > %(recent)s) as days,
           array_agg(array[series, step]) filter (where series = any(%(before)s::text[])) as before
      from outreach_sends
     where person_id = p.id
       and (created_at > %(recent)s or series = any(%(stepped)s::text[]))) s on true
 where p.shop_id = %(shop_id)s and p.id between %(first)s and %(last)s and p.email <> '' and {audience}
 order by p.id limit %(limit)s
"""


class AudiencePerson(NamedTuple):
    """A person who may get a step. ``consents`` are (given, expires) of those that nobody withdrew.

    ``steps_before`` are the steps that have a row, of the series with a higher priority, by series.
    """

    id: int
    external_id: str
    email: str
    name: str
    timezone: str
    link_key: UUID
    signed_up_at: datetime
    last_active_at: datetime | None
    consents: Sequence[tuple[datetime, datetime | None]]
    has_withdrawn: bool
    steps: Sequence[str]
    days: Sequence[date]
    steps_before: Mapping[str, Sequence[str]]


class Segment(NamedTuple):
    """People of a shop whose ids are from ``first`` to ``last``."""

    shop_id: int
    first: int
    last: int
    people: int = 0


def list_segments(tx: Connection, series: Series, now: datetime) -> list[Segment]:
    """Return the whole audience in segments of at most ``SEGMENT`` people, by shop."""
    query = _SEGMENTS.format(size=SEGMENT, audience=series.audience)
    return [Segment(**row._asdict()) for row in tx.exec_driver_sql(query, {"now": now})]


def lock_people(tx: Connection, series: Series, segment: Segment, now: datetime) -> None:
    """Lock the people of the segment, so that no other transaction composes, imports or withdraws them."""
    values = {**segment._asdict(), "now": now}
    tx.exec_driver_sql(_LOCK.format(audience=series.audience), values).all()


def plan_people(
    tx: Connection, series: Series, shop: Shop, segment: Segment, now: datetime, limit: int = SEGMENT
) -> list[PersonPlan]:
    """Return the plans of the first ``limit`` people of the segment, by id."""
    before = [one for one in list_series_before(series) if not is_job_off(tx, one.job)]
    values = {
        **segment._asdict(), "now": now, "series": series.name, "recent": now - _RECENT, "limit": limit,
        "before": text_array([one.name for one in before]),
        "stepped": text_array([one.name for one in (series, *before) if one.steps]),
    }  # fmt: skip
    rows = tx.exec_driver_sql(_READ.format(audience=series.audience), values)
    names = list(rows.keys())  # once, because ``row._asdict()`` costs more than all else here
    people = [_read_person(dict(zip(names, row, strict=True))) for row in rows]
    stops = find_suppressed(tx, [(shop.id, one.email) for one in people])
    cap = int(shop.mails_per_day)
    return [
        plan_person(series, one, stops.get((shop.id, one.email), ()), cap, shop.timezone, now, before)
        for one in people
    ]


def _read_person(values: dict[str, Any]) -> AudiencePerson:
    consents = list(zip(values.pop("given") or (), values.pop("expires") or (), strict=True))
    steps_before: dict[str, list[str]] = {}
    for name, step in values.pop("before"):
        steps_before.setdefault(name, []).append(step)
    return AudiencePerson(**values, consents=consents, steps_before=steps_before)
