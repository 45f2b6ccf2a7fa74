"""Jobs ``send-reminders`` and ``founder-sequence``: plan the work of a run, a segment of people each."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import WorkError
from services.core.pg_arrays import int_array
from services.core.settings import get_settings
from services.jobs.handler import JobResult, JobRun
from services.ledger.accept import record_work
from services.ledger.work import FollowUp, NewWork
from services.outreach.audience import Segment, list_segments, plan_people
from services.outreach.compose import check_sender
from services.outreach.handler import TOPIC
from services.outreach.series import BY_JOB, Series
from services.shops.shops import Shop, list_shops

NOT_READY_RULE = "outreach_not_ready"
"""Rule of the incident of a shop that lacks what commercial mail needs."""

_START = """
insert into outreach_runs (run_id, series, work_ids, not_ready, started_at)
values (%(run)s, %(series)s, %(work_ids)s::bigint[], %(not_ready)s, %(now)s)
on conflict (run_id) do update
   set work_ids = excluded.work_ids, not_ready = excluded.not_ready, skipped = '{}',
       started_at = excluded.started_at, ended_at = null, followed_at = null
"""


def start_series(run: JobRun) -> JobResult:
    """Plan the segments of the whole audience. The run ends when its mails are sent: see ``follow``.

    A shop without a sender gets no mail; its people who are due count as failed, and an incident
    names what is missing.
    """
    series, now = BY_JOB[run.job], utc_now()
    with transaction() as tx:
        segments = list_segments(tx, series, now)
        shops = {shop.id: shop for shop in list_shops(tx)}
    faults: dict[int, WorkError] = {}
    for shop_id in {one.shop_id for one in segments} & shops.keys():
        try:
            check_sender(shops[shop_id], get_settings().public_url)
        except WorkError as fault:
            faults[shop_id] = fault
    with transaction() as tx:
        segments = [
            one._replace(people=_count_due(tx, series, shops[one.shop_id], one, now))
            if one.shop_id in faults
            else one
            for one in segments
            if one.shop_id in shops
        ]
    return JobResult(
        result="planned", is_ended=False, record=partial(_record, run, series, segments, faults, now)
    )


def _count_due(tx: Connection, series: Series, shop: Shop, segment: Segment, now: datetime) -> int:
    return sum(not one.reason for one in plan_people(tx, series, shop, segment, now))


def _record(
    run: JobRun,
    series: Series,
    segments: Sequence[Segment],
    faults: Mapping[int, WorkError],
    now: datetime,
    tx: Connection,
) -> FollowUp:
    ready = [one for one in segments if one.shop_id not in faults]
    not_ready = sum(one.people for one in segments if one.shop_id in faults)
    refs = record_work(tx, [_make_work(run, series, one) for one in ready], now)
    values = {"run": run.id, "series": series.name, "work_ids": int_array(ref.id for ref in refs)}
    tx.exec_driver_sql(_START, {**values, "not_ready": not_ready, "now": now})
    for shop_id, fault in sorted(faults.items()):
        incident = Incident(
            shop_id,
            NOT_READY_RULE,
            run.job,
            "P2",
            f"{run.job} sends nothing: {fault.detail}",
            {"code": fault.code},
        )
        record_incidents(tx, [incident], now)
    for shop_id in sorted({one.shop_id for one in ready}):
        resolve_incident(tx, shop_id, NOT_READY_RULE, run.job, now, "The mails go out.")
    return FollowUp()


def _make_work(run: JobRun, series: Series, segment: Segment) -> NewWork:
    return NewWork(
        shop_id=segment.shop_id,
        topic=TOPIC,
        key=f"{run.id}:{segment.first}",
        payload={
            "run": run.id,
            "series": series.name,
            "first": segment.first,
            "last": segment.last,
            "public_url": get_settings().public_url,
        },
        origin="job",
        request_id=run.request_id,
    )
