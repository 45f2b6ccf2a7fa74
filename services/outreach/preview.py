"""Who would get what now, and why not the others: no row is changed."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.db import Page
from services.core.errors import WorkError
from services.core.settings import get_settings
from services.outreach.audience import Segment, plan_people
from services.outreach.compose import check_sender
from services.outreach.plan import NOT_DUE, TOO_LATE, PersonPlan
from services.outreach.series import Series
from services.shops.shops import Shop

DUE = "due"
_PAGE = 2000
_LARGEST_ID = 2**63 - 1
_COUNT = "select count(*) from outreach_people where shop_id = %(shop_id)s and email <> ''"


class PreviewedPerson(NamedTuple):
    """A person: what they get and when (None: at once), or why not."""

    external_id: str
    email: str
    step: str
    result: str
    starts_at: datetime | None


class SeriesPreview(NamedTuple):
    """The series at one shop. ``fault`` is what the shop lacks, or empty; ``counts`` are people by result.

    ``too_late`` counts steps of the founder sequence instead, which are lost.
    """

    fault: str
    counts: dict[str, int]
    people: Page[PreviewedPerson]


def preview_series(tx: Connection, series: Series, shop: Shop, now: datetime, limit: int) -> SeriesPreview:
    """Return what a run of ``series`` at ``now`` does, with the first ``limit`` people of its audience.

    People whom the series does not concern are counted as ``not_due`` and not listed.
    """
    try:
        check_sender(shop, get_settings().public_url)
        fault = ""
    except WorkError as found:
        fault = found.detail
    counts: Counter[str] = Counter()
    late = 0
    people: Page[PreviewedPerson] = Page()
    for plan in _plan_all(tx, series, shop, now):
        result = plan.reason or DUE
        counts[result] += 1
        late += len(plan.late)
        if result == NOT_DUE:
            continue
        people.total += 1
        if len(people) < limit:
            one: Any = plan.person
            starts_at = plan.starts_at if result == DUE else None
            people.append(PreviewedPerson(one.external_id, one.email, plan.step, result, starts_at))
    everybody = tx.exec_driver_sql(_COUNT, {"shop_id": shop.id}).scalar_one()
    counts[NOT_DUE] += everybody - counts.total()
    counts[TOO_LATE] = late
    return SeriesPreview(fault, {name: count for name, count in counts.items() if count}, people)


def _plan_all(tx: Connection, series: Series, shop: Shop, now: datetime) -> Iterator[PersonPlan]:
    first = 0
    while plans := plan_people(tx, series, shop, Segment(shop.id, first, _LARGEST_ID), now, _PAGE):
        yield from plans
        first = plans[-1].person.id + 1
