"""Topic ``outreach_compose``: writes the mails of one segment to the outbox, exactly once."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import orjson
from sqlalchemy import Connection

from services.audit.chain import AuditEntry, Mutation
from services.core.counts import format_count
from services.core.errors import Refused, WorkError
from services.core.log_redaction import quote_value
from services.core.pg_arrays import arrays, text_array
from services.core.settings import get_settings
from services.ledger.work import Done, HandlerResult, NewWork, WorkItem
from services.mail.outbox import record_mails
from services.outreach.audience import Segment, lock_people, plan_people
from services.outreach.compose import check_sender, compose
from services.outreach.plan import TOO_LATE, PersonPlan, count_skipped
from services.outreach.series import SERIES, Series
from services.outreach.texts import read_texts
from services.shops.shops import get_shop_by_id

TOPIC = "outreach_compose"

# A generic plan joins a set of 500 addresses with a nested loop.
_USE_OWN_PLANS = "set local plan_cache_mode = force_custom_plan"
_FIND_MAILS = """
select id, dedupe_key from mail_outbox
 where shop_id = %(shop_id)s and dedupe_key = any(%(key)s::text[])
"""
_INSERT = """
insert into outreach_sends (person_id, shop_id, series, step, run_id, local_day, status, reason, mail_id,
                            starts_at, created_at)
select person_id, %(shop_id)s, %(series)s, step, %(run)s, local_day::date, status, reason, mail_id, starts_at,
       %(now)s
  from unnest(%(person_id)s::bigint[], %(step)s::text[], %(local_day)s::text[], %(status)s::text[],
              %(reason)s::text[], %(mail_id)s::bigint[], %(starts_at)s::timestamptz[])
       as v(person_id, step, local_day, status, reason, mail_id, starts_at)
"""
_ADD_SKIPPED = """
update outreach_runs
   set skipped = (select jsonb_object_agg(key, count)
                    from (select key, sum(value::int) as count
                            from (select * from jsonb_each_text(skipped)
                                   union all
                                  select * from jsonb_each_text(%(counts)s::jsonb)) each
                           group by key) total)
 where run_id = %(run)s
"""


def compose_segments(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Store the mails of each segment with their sends and their work, in the transaction of the item.

    A person gets each step once: the people are locked, and a step that has a row is not composed again.
    """
    tx.exec_driver_sql(_USE_OWN_PLANS)
    results = [_compose_one(tx, item, now) for item in items]
    return HandlerResult(
        [one for result in results for one in result.outcomes],
        [one for result in results for one in result.new_work],
        [one for result in results for one in result.audit],
    )


def _compose_one(tx: Connection, item: WorkItem, now: datetime) -> HandlerResult:
    series = SERIES.get(str(item.payload.get("series")))
    numbers = [one for name in ("run", "first", "last") if type(one := item.payload.get(name)) is int]
    if series is None or len(numbers) < 3:
        shown = quote_value(item.payload)
        return HandlerResult([Refused("outreach.no_segment", f"payload is {shown}: use fleet jobs run")])
    run, first, last = numbers
    shop = get_shop_by_id(tx, item.shop_id)
    if shop.removed_at is not None:
        return HandlerResult([Done("removed")])
    public_url = str(item.payload.get("public_url") or get_settings().public_url)
    try:
        check_sender(shop, public_url)
    except WorkError as fault:
        return HandlerResult([fault])
    segment = Segment(shop.id, first, last)
    lock_people(tx, series, segment, now)
    plans = plan_people(tx, series, shop, segment, now)
    due = [one for one in plans if not one.reason]
    texts = read_texts(tx, shop.id)
    mails = [compose(series, one, shop, texts, public_url) for one in due]
    work = record_mails(tx, mails, now, request_id=item.request_id)
    keys = text_array([mail.dedupe_key for mail in mails])
    found = tx.exec_driver_sql(_FIND_MAILS, {"shop_id": shop.id, "key": keys})
    ids = {key: mail_id for mail_id, key in found}
    by_mail = {ids[mail.dedupe_key]: one for mail, one in zip(mails, due, strict=True)}
    _insert_sends(tx, series, shop.id, run, plans, {one.person.id: key for key, one in by_mail.items()}, now)
    counts = count_skipped(plans)
    if counts:
        tx.exec_driver_sql(_ADD_SKIPPED, {"run": run, "counts": orjson.dumps(counts).decode()})
    entries = [_describe(item, series, run, len(due))] if due else []
    new_work = [_delay(one, by_mail[int(one.key)]) for one in work]
    return HandlerResult([Done(format_count(len(due), "mail"))], new_work, entries)


def _delay(work: NewWork, plan: PersonPlan) -> NewWork:
    return replace(work, not_before=plan.starts_at) if plan.starts_at else work


def _describe(item: WorkItem, series: Series, run: int, count: int) -> AuditEntry:
    mutation = Mutation(
        "outreach_runs",
        str(run),
        f"{series.name}: {format_count(count, 'mail')} composed",
        None,
        {"mails": count},
    )
    return AuditEntry(item.shop_id, "outreach", "outreach.compose", item.request_id, [mutation], item.id)


def _insert_sends(
    tx: Connection,
    series: Series,
    shop_id: int,
    run: int,
    plans: Sequence[PersonPlan],
    mail_ids: dict[int, int],
    now: datetime,
) -> None:
    rows: list[tuple[object, ...]] = []
    for one in plans:
        person_id, on = one.person.id, one.local_day.isoformat()
        rows += [(person_id, step, on, "skipped", TOO_LATE, None, None) for step in one.late]
        if not one.reason:
            rows.append((person_id, one.step, on, "mailed", "", mail_ids[person_id], one.starts_at))
    if rows:
        values = arrays("person_id step local_day status reason mail_id starts_at", rows)
        usual = {"shop_id": shop_id, "series": series.name, "run": run, "now": now}
        tx.exec_driver_sql(_INSERT, {**values, **usual})
