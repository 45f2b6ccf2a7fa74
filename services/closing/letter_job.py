"""Job ``owner-letter``: drafts each owner's letter on Monday; topic ``letter_send`` mails it on Tuesday."""

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from services.audit.chain import AuditEntry, Mutation
from services.closing.letter_draft import CLOSING, Problem, WeekRecord, read_week, write_letter
from services.closing.letter_tables import owner_letters
from services.closing.letters import make_send_work
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused
from services.core.log_redaction import quote_value
from services.jobs.handler import JobResult, JobRun
from services.jobs.schedule import period_bounds
from services.ledger.work import Done, FollowUp, HandlerResult, NewWork, Outcome, WorkItem
from services.mail.compose import compose_mail
from services.mail.message import MailType
from services.mail.outbox import record_mails
from services.shops.shops import Shop, get_shop_by_id

SENT_AT = time(10)
"""The local time on the day after the draft's Monday."""
TIME_TO_READ = timedelta(hours=2)
"""The least time between a draft and its mail, for a run that is late."""

_column = owner_letters.c
_DRAFT = (
    insert(owner_letters).on_conflict_do_nothing(constraint="uq_owner_letters_week").returning(_column.id)
)
NO_ADDRESS = "the shop has no owner address: fleet shops set SHOP --owner-email, then approve the letter"


def draft_owner_letter(run: JobRun) -> JobResult:
    """Write the letter about the run's week, in days of the shop's zone, once; plan when it is sent.

    A week in which nothing happened has a letter too. A letter that exists stays as it is.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    begins, ends = period_bounds(run.covers, run.period, run.zone)
    now = utc_now()
    with transaction() as tx:
        shop = get_shop_by_id(tx, run.shop_id)
        record = read_week(tx, shop, begins, ends, run.zone, now)
    subject, body = write_letter(record)
    row = {
        "shop_id": shop.id,
        "week": run.period,
        "subject": subject,
        "body": body,
        "drafted_at": now,
        "send_at": plan_send_time(ends.astimezone(run.zone), now),
    }
    stats = {"problems": len(record.problems), "orders": record.orders, "planned": len(record.planned)}
    return JobResult(stats=stats, record=partial(_record, row, run.request_id))


def plan_send_time(monday: datetime, now: datetime) -> datetime:
    """Return 10:00 on the day after ``monday`` (its zone counts), or a day later while that is too soon."""
    day = monday.date()
    while True:
        day += timedelta(days=1)
        at = datetime.combine(day, SENT_AT, monday.tzinfo)
        if at >= now + TIME_TO_READ:
            return at


def _record(row: Mapping[str, Any], request_id: str, tx: Connection) -> FollowUp:
    letter_id = tx.execute(_DRAFT, row).scalar()
    if letter_id is None:
        return FollowUp()
    return FollowUp([make_send_work(letter_id, row["shop_id"], row["send_at"], request_id)])


def send_letters(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Mail each letter that no person holds, once. One without an address is held, with the reason."""
    outcomes: list[Outcome] = []
    work: list[NewWork] = []
    audit: list[AuditEntry] = []
    for item in items:
        outcome, follow = _send_one(tx, item, now)
        outcomes.append(outcome)
        work += follow.new_work
        audit += follow.audit
    return HandlerResult(outcomes, work, audit)


def _send_one(tx: Connection, item: WorkItem, now: datetime) -> tuple[Outcome, FollowUp]:
    letter_id = item.payload.get("letter")
    if not isinstance(letter_id, int):
        return Refused("letter.no_id", f"letter is {quote_value(letter_id)}: discard it"), FollowUp()
    shop = get_shop_by_id(tx, item.shop_id)
    if shop.removed_at is not None:
        return Done("removed"), FollowUp()
    is_open = (_column.id == letter_id) & (_column.shop_id == shop.id)
    is_open &= _column.status.in_(("draft", "approved"))
    change = {"status": "mailed"} if shop.owner_email else {"status": "held", "reason": NO_ADDRESS}
    letter = tx.execute(update(owner_letters).where(is_open).values(change).returning(*_column)).first()
    if letter is None:
        status = tx.execute(select(_column.status).where(_column.id == letter_id)).scalar()
        return Done(status or "removed"), FollowUp()
    if not shop.owner_email:
        return Done("no_owner_email"), FollowUp()
    context = plan_letter_context(letter.subject, letter.body)
    mail = compose_mail(OWNER_LETTER_MAIL, context, shop=shop, recipient=shop.owner_email, period=letter.week)
    work = record_mails(tx, [mail], now, request_id=item.request_id)
    if work:
        tx.execute(update(owner_letters).where(_column.id == letter_id).values(mail_id=int(work[0].key)))
    summary = f"owner letter of {letter.week} mailed"
    mutation = Mutation("owner_letters", str(letter_id), summary, None, change)
    entry = AuditEntry(shop.id, "letter_send", "letter.mail", item.request_id, [mutation], item.id)
    return Done("mailed"), FollowUp(work, [entry])


def plan_letter_context(subject: str, body: str) -> dict[str, Any]:
    """Return the context of ``owner_letter``: its subject, and its paragraphs."""
    return {"title": subject, "paragraphs": [part for part in body.split("\n\n") if part.strip()]}


def _sample(shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    zone = shop.zone if shop else now.tzinfo
    monday = (now - timedelta(days=now.weekday() + 7)).replace(hour=9, minute=12)
    record = WeekRecord(
        shop_name=shop.name if shop else "Your shop",
        first=monday.date(),
        zone=zone,  # type: ignore[arg-type]
        orders=212,
        sold={shop.currency if shop else "CAD": 3_942_00},
        problems=[
            Problem(
                "webhooks or pages are answered with 5xx", "P2", monday, monday + timedelta(minutes=38),
                ["we restarted the server and processed all webhooks that waited"],
            ),
            Problem("a secret was not replaced for a long time", "P3", monday, None),
        ],
        breaks_found=2,
        breaks_open=0,
        unread_days=0,
        planned=[((monday + timedelta(days=15)).date(), "reports move to a new page, from 06:00 to 06:10")],
    )  # fmt: skip
    return plan_letter_context(*write_letter(record))


OWNER_LETTER_MAIL = MailType(
    name="owner_letter",
    package="services.closing",
    about=f"the week: problems and what was done, planned changes, and: {CLOSING[:18]}",
    reader="shop owner",
    why="You get this because you own this shop: once a week, as part of the service that you use.",
    sample=_sample,
)
