"""People of a shop, their consents, and one row for each person and step of a series."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Date, ForeignKey, Index, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.core.columns import AT, EMPTY, NO_JSON, ZERO, columns, identity, keys, optional
from services.core.db import metadata

BASES = ("express", "implied")
STATUSES = ("mailed", "sent", "failed", "skipped")
"""``mailed``: its mail is in the outbox; ``skipped``: never sent, because of its ``reason``."""


def _of_person() -> Column[int]:
    key = ForeignKey("outreach_people.id", ondelete="CASCADE")
    return Column("person_id", BigInteger, key, nullable=False)


# ``external_id`` is the operator's own. An empty ``timezone`` is the shop's. ``link_key`` signs the links to
# unsubscribe of this person.
outreach_people = Table(
    "outreach_people",
    metadata,
    identity(),
    Column("shop_id", Integer, ForeignKey("shops.id"), nullable=False),
    *columns("external_id email", Text),
    *columns("name timezone", Text, EMPTY),
    *optional("signed_up_at last_active_at", AT),
    *columns("link_key", Uuid, text("gen_random_uuid()")),
    *columns("created_at changed_at", AT),
    sa.UniqueConstraint("shop_id", "external_id", name="uq_outreach_people_external_id"),
    Index("ix_outreach_people_email", "shop_id", "email"),
    Index("ix_outreach_people_shop_id", "shop_id", "id"),
)

# Canada's anti-spam law: implied consent ends 2 years after a purchase, 6 months after an inquiry.
outreach_consents = Table(
    "outreach_consents",
    metadata,
    identity(),
    _of_person(),
    *columns("shop_id", Integer),
    *columns("basis source", Text),
    *columns("given_at created_at", AT),
    *optional("expires_at withdrawn_at", AT),
    *optional("withdrawn_by", Text),
    sa.CheckConstraint("basis in ('express','implied')", name="basis"),
    sa.CheckConstraint("basis = 'express' or expires_at is not null", name="expiry"),
    sa.UniqueConstraint("person_id", "basis", "given_at", name="uq_outreach_consents_given"),
    Index("ix_outreach_consents_shop_id", "shop_id", "id"),
)

# The key is for ever: no person gets a step twice, also with another address. ``local_day`` is the day in the
# person's zone on which the mail goes out; ``starts_at`` is its time if it waits for the end of quiet hours.
outreach_sends = Table(
    "outreach_sends",
    metadata,
    identity(),
    _of_person(),
    *columns("shop_id", Integer),
    *columns("series step", Text),
    *columns("run_id", BigInteger),
    *columns("local_day", Date),
    *columns("status", Text),
    *columns("reason", Text, EMPTY),
    *optional("mail_id", BigInteger),
    *optional("starts_at", AT),
    *columns("created_at", AT),
    sa.CheckConstraint("status in ('mailed','sent','failed','skipped')", name="status"),
    sa.UniqueConstraint("person_id", "series", "step", name="uq_outreach_sends_step"),
    Index("ix_outreach_sends_run_id", "run_id"),
    Index("ix_outreach_sends_shop_id", "shop_id", "id"),
    Index("ix_outreach_sends_open", "run_id", postgresql_where=text("status in ('mailed','failed')")),
)

# A run of a series: its work, and the people who got no mail, counted by reason.
outreach_runs = Table(
    "outreach_runs",
    metadata,
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    *columns("series", Text),
    *columns("work_ids", ARRAY(BigInteger), text("'{}'")),
    *columns("not_ready", Integer, ZERO),
    *columns("skipped", JSONB, NO_JSON),
    *columns("started_at", AT),
    *optional("ended_at followed_at", AT),
    Index("ix_outreach_runs_started_at", "started_at"),
)

# What a shop writes instead of the usual text; ``body`` is plain text, its paragraphs apart by an empty line.
outreach_texts = Table(
    "outreach_texts",
    metadata,
    Column("shop_id", Integer, ForeignKey("shops.id"), primary_key=True),
    *keys("series step", Text),
    *columns("subject body", Text),
    *columns("changed_at", AT),
)
